// Global build arguments: predefined, declared before the first FROM, and given by the client.
#include "frontends/dockerfile/converter.hpp"
#include "frontends/dockerfile/suggest.hpp"
#include "frontends/dockerfile/text.hpp"
#include "messages/image_reference.hpp"

namespace kiln::dockerfile {

llb::env_list converter::default_args() const {
  const auto& build = build_platforms_.front();
  const auto& target = target_platform_;
  auto stage_name = options_.target;
  llb::env_list out;
  auto set = [&](const char* key, const std::string& value) {
    auto at = build_args_.find(key);
    out.set(key, at == build_args_.end() ? value : at->second);
  };
  set("BUILDPLATFORM", format_short(build));
  set("BUILDOS", build.os);
  set("BUILDOSVERSION", build.os_version);
  set("BUILDARCH", build.architecture);
  set("BUILDVARIANT", build.variant);
  set("TARGETPLATFORM", format_platform(target));
  set("TARGETOS", target.os);
  set("TARGETOSVERSION", target.os_version);
  set("TARGETARCH", target.architecture);
  set("TARGETVARIANT", target.variant);
  return out;
}

result<llb::env_list> converter::global_arguments(const llb::env_list& defaults,
                                                  const std::vector<arg_instruction>& args,
                                                  const option_map& build_args,
                                                  std::map<std::string, arg_info>& all) const {
  auto env = defaults;
  for (const auto& instruction : args) {
    for (auto definition : instruction.args) {
      arg_info info{"", definition, {}, instruction.location};
      if (auto given = build_args.find(definition.key); given != build_args.end()) {
        definition.value = given->second;
      } else if (definition.value) {
        auto expanded = words_.expand(*definition.value, list_environment(env));
        if (!expanded) return with_location(std::move(expanded).error(), instruction.location);
        definition.value = expanded->text;
        info.deps = expanded->matched;
        if (info.deps.erase(definition.key) > 0)
          if (auto old = all.find(definition.key); old != all.end())
            info.deps.insert(old->second.deps.begin(), old->second.deps.end());
      }
      if (definition.value) {
        env.set(definition.key, *definition.value);
        info.value = *definition.value;
      }
      all[definition.key] = std::move(info);
    }
  }
  return env;
}

void converter::check_default_bases(const dockerfile& file, const llb::env_list& defaults) const {
  std::map<std::string, arg_info> ignored;
  auto args = global_arguments(defaults, file.global_args, {}, ignored);
  if (!args) return;
  for (const auto& s : file.stages) {
    auto name = words_.expand(s.base_name, list_environment(*args));
    if (!name) return;
    if (!parse_image_reference(name->text))
      checks_.report(rules::invalid_default_arg_in_from,
                     "Default value for ARG " + s.base_name + " results in empty or invalid base image name",
                     s.location);
  }
}

std::vector<std::string> converter::known_from_args() const {
  std::set<std::string> names;
  for (const auto& [key, info] : global_usage_.all_args) names.insert(key);
  for (const auto& [key, value] : global_args_.entries()) names.insert(key);
  return {names.begin(), names.end()};
}

void converter::report_undefined_from(const std::set<std::string>& unmatched, const line_ranges& where,
                                      const lint& checks) const {
  auto known = known_from_args();
  for (const auto& name : unmatched) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    auto match = suggest(name, known, true);
    checks.report(rules::undefined_arg_in_from,
                  "FROM argument '" + name + "' is not declared" +
                      (match.empty() ? "" : " (did you mean " + match + "?)"),
                  where);
  }
}

}  // namespace kiln::dockerfile
