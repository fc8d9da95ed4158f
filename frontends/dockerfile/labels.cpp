// The names that vertices and history entries are shown by.
#include <algorithm>

#include "frontends/dockerfile/converter.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace {

// The platform that TARGET* variables name, if any.
std::optional<kiln::platform> platform_from(const environment& env) {
  kiln::platform p;
  bool set = false;
  for (const auto& key : env.names()) {
    auto value = env.get(key).value_or("");
    if (key == "TARGETPLATFORM") {
      if (auto parsed = parse_platform(value)) return *std::move(parsed);
    } else if (key == "TARGETOS") {
      p.os = value;
      set = true;
    } else if (key == "TARGETARCH") {
      p.architecture = value;
      set = true;
    } else if (key == "TARGETVARIANT") {
      p.variant = value;
      set = true;
    }
  }
  return set ? std::optional(p) : std::nullopt;
}

// "->arm64" when a step cross-compiles.
std::string cross_target(const kiln::platform& base, std::optional<kiln::platform> target) {
  if (!target) return {};
  if (target->os.empty()) target->os = base.os;
  if (target->architecture.empty()) target->architecture = base.architecture;
  auto p = normalize(*target);
  if (p.os != base.os) return "->" + format_platform(p);
  if (p.architecture == base.architecture) return {};
  return "->" + p.architecture + (p.variant.empty() ? "" : "/" + p.variant);
}

}  // namespace

std::string format_short(const kiln::platform& p) {
  if (p.os.empty()) return "unknown";
  auto out = p.os;
  if (!p.architecture.empty()) out += "/" + p.architecture;
  if (!p.variant.empty()) out += "/" + p.variant;
  return out;
}

std::string uppercase_keyword(const std::string& text) {
  auto space = text.find(' ');
  return to_upper(text.substr(0, space)) + (space == std::string::npos ? "" : text.substr(space));
}

std::string heredoc_summary(std::string_view content) {
  auto text = trim_space(content);
  auto end = text.find('\n');
  std::string out(text.substr(0, end));
  if (end == std::string_view::npos) return out;
  if (out.ends_with('\r')) out.pop_back();
  return out + "...";
}

std::string converter::expanded_label(const shell_words& words, const std::string& text,
                                      const environment& env) const {
  auto out = words.expand(text, env);
  return out ? out->text : text;
}

std::string converter::prefix(stage_state& s, const std::string& text,
                              const std::optional<kiln::platform>& platform, const environment& env) const {
  if (s.step_total == 0) return text;
  std::string out = "[";
  if (options_.multi_platform && platform)
    out += format_platform(*platform) + cross_target(*platform, platform_from(env)) + " ";
  if (!s.name.empty()) out += s.name + " ";
  auto total = std::to_string(s.step_total);
  auto index = std::to_string(++s.step_index);
  if (index.size() < total.size()) out += std::string(total.size() - index.size(), ' ');
  out += index + "/" + total + "] ";
  if (s.in_onbuild) out += "ONBUILD ";
  return out + text;
}

std::vector<std::string> converter::with_shell(const stage_state& s,
                                               const std::vector<std::string>& args) const {
  auto out = s.image.shell;
  if (out.empty())
    out = s.image.platform.os == "windows" ? std::vector<std::string>{"cmd", "/S", "/C"}
                                           : std::vector<std::string>{"/bin/sh", "-c"};
  out.push_back(join(args, " "));
  return out;
}

std::string converter::run_history(const std::vector<std::string>& args, const stage_state& s,
                                   const llb::env_list& env) const {
  std::vector<std::pair<std::string, std::string>> values;
  for (const auto& arg : s.build_args) {
    auto value = env.get(arg.key).value_or(arg.value.value_or(""));
    auto same = std::find_if(values.begin(), values.end(), [&](const auto& v) { return v.first == arg.key; });
    if (same != values.end()) same->second = value;
    else values.emplace_back(arg.key, value);
  }
  std::vector<std::string> words;
  if (!values.empty()) words.push_back("|" + std::to_string(values.size()));
  for (const auto& [key, value] : values) words.push_back(key + "=" + value);
  words.insert(words.end(), args.begin(), args.end());
  return join(words, " ");
}

std::vector<llb::source_location> converter::locations(const line_ranges& where) const {
  return {{request_.file, to_proto(where)}};
}

}  // namespace kiln::dockerfile
