#include "frontends/dockerfile/convert.hpp"

#include <algorithm>
#include <functional>

#include "configs/executor.hpp"
#include "configs/frontends.hpp"
#include "frontends/dockerfile/converter.hpp"
#include "frontends/dockerfile/directives.hpp"
#include "frontends/dockerfile/refusal.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace {

constexpr std::string_view scan_context_arg = "BUILDKIT_SBOM_SCAN_CONTEXT";
constexpr std::string_view scan_stage_arg = "BUILDKIT_SBOM_SCAN_STAGE";

std::optional<pb::ProxyEnv> proxy_from(const option_map& build_args) {
  pb::ProxyEnv out;
  bool any = false;
  for (const auto& [key, value] : build_args) {
    auto name = to_lower(key);
    if (name == "http_proxy") out.set_http_proxy(value);
    else if (name == "https_proxy") out.set_https_proxy(value);
    else if (name == "ftp_proxy") out.set_ftp_proxy(value);
    else if (name == "no_proxy") out.set_no_proxy(value);
    else if (name == "all_proxy") out.set_all_proxy(value);
    else continue;
    any = true;
  }
  return any ? std::optional(out) : std::nullopt;
}

bool enabled_for(const std::string& stage, const std::string& value) {
  if (auto flag = parse_bool(value)) return *flag;
  auto names = split(value, ',');
  return std::find(names.begin(), names.end(), stage) != names.end();
}

void collect(stage_state* s, std::set<stage_state*>& out) {
  std::vector<stage_state*> todo{s};
  while (!todo.empty()) {
    auto* next = todo.back();
    todo.pop_back();
    if (next == nullptr || !out.insert(next).second) continue;
    todo.push_back(next->base);
    for (const auto& [dep, where] : next->deps) todo.push_back(dep);
  }
}

}  // namespace

std::vector<std::string> follow_paths_of(const std::set<std::string>& paths) {
  std::vector<std::string> out;
  for (const auto& path : paths) {
    if (path == "/") return {};
    out.push_back(path_join(".", path));
  }
  std::sort(out.begin(), out.end());
  return out;
}

result<lint_config> lint_settings(const build_options& options, std::string_view text) {
  if (options.check) return *options.check;
  auto directive = find_directive("check", text);
  auto config = parse_lint_options(directive ? directive->first_word : "");
  if (!config) return std::move(config).error().with_context("failed to parse check options");
  return config;
}

converter::converter(const convert_request& request, bool all_stages)
    : request_(request),
      sources_(*request.sources),
      options_(request.sources->options()),
      graph_(request.sources->graph()),
      all_stages_(all_stages),
      build_args_(options_.build_args),
      build_platforms_{sources_.default_platform()},
      target_platform_(request.target_platform.value_or(build_platforms_.front())),
      implicit_target_(!request.target_platform) {}

result<stage_state*> converter::run() {
  const auto& text = request_.file->data;
  if (text.empty()) return invalid("the Dockerfile cannot be empty");
  KILN_TRY(auto config, lint_settings(options_, text));
  checks_ = lint(config, request_.warn);
  KILN_TRY(auto parsed, parse(text));
  for (const auto& where : parsed.empty_continuations)
    checks_.report(rules::no_empty_continuation, "Empty continuation line", where);
  KILN_TRY(auto file, parse_instructions(parsed, checks_));
  if (file.stages.empty()) return invalid("dockerfile contains no stages to build");
  if (file.stages.size() > configs::dockerfile_max_stages ||
      parsed.nodes.size() > configs::dockerfile_max_instructions)
    return invalid("dockerfile is too large: more than " + std::to_string(configs::dockerfile_max_stages) +
                   " stages or " + std::to_string(configs::dockerfile_max_instructions) + " instructions");
  check_stage_names(file.stages, checks_);
  check_casing(file.stages, checks_);
  words_ = shell_words(parsed.escape);

  auto defaults = default_args();
  auto target_name = options_.target.empty() ? file.stages.back().name : options_.target;
  auto given = build_args_.find("TARGETSTAGE");
  defaults.set("TARGETSTAGE", given != build_args_.end() ? given->second
                              : target_name.empty()      ? "default"
                                                         : target_name);
  check_default_bases(file, defaults);
  KILN_TRY(global_args_, global_arguments(defaults, file.global_args, build_args_, global_usage_.all_args));
  auto wanted = build_args_.find("SOURCE_DATE_EPOCH");
  auto declared = global_args_.get("SOURCE_DATE_EPOCH");
  if (wanted != build_args_.end() || (declared && !declared->empty())) {
    auto value = wanted != build_args_.end() ? wanted->second : *declared;
    KILN_TRY(epoch_, resolve_epoch(value, file.stages));
    auto resolved = epoch_ ? std::to_string(*epoch_) : std::string();
    if (wanted != build_args_.end()) {
      if (resolved.empty()) build_args_.erase(wanted);
      else wanted->second = resolved;
    }
    if (declared) {
      if (resolved.empty()) global_args_.erase("SOURCE_DATE_EPOCH");
      else global_args_.set("SOURCE_DATE_EPOCH", resolved);
    }
  }
  proxy_ = proxy_from(build_args_);

  KILN_CHECK(build_stages(file.stages));
  KILN_TRY(auto* target, find_target());
  KILN_CHECK(connect_stages());
  KILN_TRY(auto reachable, resolve_stages(target));
  KILN_CHECK(dispatch_stages(reachable));
  target->paths->insert("/");
  KILN_CHECK(finish_image(*target));
  return target;
}

status converter::begin_stage(stage_state& s) {
  inherit(s);
  s.dispatched = true;
  if (!s.platform) s.platform = target_platform_;
  if (!s.image.get_env("PATH") && s.platform->os != "windows")
    s.image.env.push_back(std::string("PATH=") + configs::default_path_of(s.platform->os));
  for (const auto& entry : s.image.env) {
    auto [key, value] = split_env(entry);
    s.state.env.set(key, value);
  }
  if (!options_.hostname.empty()) s.state.hostname = options_.hostname;
  if (!s.image.working_dir.empty()) KILN_CHECK(set_workdir(s, s.image.working_dir));
  if (!s.image.user.empty()) s.state.user = s.image.user;
  s.state.network = options_.network;
  return {};
}

void converter::read_scan_settings(stage_state& s) {
  for (auto key : {scan_context_arg, scan_stage_arg}) {
    bool on = false;
    if (auto value = global_args_.get(key)) on = enabled_for(s.name, *value);
    for (const auto& arg : s.build_args)
      if (arg.key == key && arg.value) on = enabled_for(s.name, *arg.value);
    if (on) (key == scan_context_arg ? s.scan_context : s.scan_stage) = true;
  }
}

status converter::dispatch_stages(const std::set<stage_state*>& reachable) {
  context_ = graph_.make<llb::deferred_vertex>();
  KILN_TRY(auto patterns, sources_.ignore_patterns());
  has_ignored_ = !patterns.empty();
  KILN_TRY(ignored_, pattern_list::compile(patterns));
  std::set<std::string> context_paths;
  for (auto* s : stages_) {
    if (!all_stages_ && (!reachable.contains(s) || s->dispatched)) continue;
    if (auto begun = begin_stage(*s); !begun)
      return with_location(std::move(begun).error(), s->definition.location);
    for (auto& command : s->steps) {
      if (sources_.host().stop_token().stop_requested())
        return make_error(errc::cancelled, "context canceled");
      if (auto done = dispatch(*s, command); !done)
        return with_location(std::move(done).error(), base_of(command.what).location);
    }
    context_paths.insert(s->context_paths.begin(), s->context_paths.end());
    read_scan_settings(*s);
  }
  KILN_CHECK(checks_.verdict());
  KILN_TRY(auto context, sources_.main_context(follow_paths_of(context_paths)));
  context_->bind(context);
  return {};
}

status converter::finish_image(stage_state& target) {
  for (const auto& bind : finishers_) bind();
  auto& image = target.image;
  if (!options_.labels.empty() && !image.labels) image.labels.emplace();
  for (const auto& [key, value] : options_.labels) (*image.labels)[key] = value;
  if (!implicit_target_) {
    const auto& p = target_platform_;
    bool same = p.os == image.platform.os && p.architecture == image.platform.architecture;
    image.platform.os = p.os;
    image.platform.architecture = p.architecture;
    if (!p.variant.empty() || !same) image.platform.variant = p.variant;
    if (!p.os_version.empty() || !same) image.platform.os_version = p.os_version;
    if (!p.os_features.empty()) image.platform.os_features = p.os_features;
  }
  image.platform = normalize(image.platform);
  return {};
}

result<conversion> converter::finish(stage_state& target) {
  conversion out;
  out.state = target.state;
  out.image = target.image;
  out.base_image = target.base_image;
  out.epoch = epoch_;
  out.platform = target_platform_;
  out.ignore_cache = target.ignore_cache;
  if (target.scan_context) out.scan_extras["context"].out = {context_, 0};
  std::set<stage_state*> reachable;
  collect(&target, reachable);
  for (auto* s : reachable) {
    if (s == &target || !s->scan_stage) continue;
    out.scan_extras[s->name] = s->state;
    out.ignore_cache |= s->ignore_cache;
  }
  return out;
}

result<conversion> convert(const convert_request& request) {
  converter c(request);
  KILN_TRY(auto* target, c.run());
  return c.finish(*target);
}

result<outline> outline_of(const convert_request& request) {
  converter c(request);
  KILN_TRY(auto* target, c.run());
  return c.outline_for(*target);
}

status check(const convert_request& request) {
  converter c(request, request.sources->options().target.empty());
  KILN_TRY(auto* target, c.run());
  (void)target;
  return {};
}

}  // namespace kiln::dockerfile
