#include "actors/build/verify_platforms.hpp"

#include <algorithm>
#include <set>

#include "base/json_text.hpp"
#include "base/text.hpp"

namespace kiln::actors {

namespace {

error invalid(std::string text) { return make_error(errc::invalid_argument, std::move(text)); }

/// "os[(version)]/arch[/variant]". Source: containerd/platforms FormatAll.
std::string format_all(const platform& p) {
  auto text = format_platform(p);
  if (p.os_version.empty()) return text;
  auto slash = text.find('/');
  auto end = slash == std::string::npos ? text.size() : slash;
  return text.substr(0, end) + "(" + p.os_version + ")" + text.substr(end);
}

platform platform_of(const nlohmann::json& fields) {
  auto text = [&](const char* name) { return text_member(fields, name); };
  platform p;
  p.os = text("os");
  p.architecture = text("architecture");
  p.variant = text("variant");
  p.os_version = text("os.version");
  return p;
}

result<std::vector<platform>> result_platforms(const std::map<std::string, std::string>& metadata) {
  std::vector<platform> out;
  if (auto index = metadata.find("refs.platforms"); index != metadata.end()) {
    nlohmann::json json = nlohmann::json::object();
    constexpr const char* failed = "failed to parse platforms passed to provenance processor";
    if (!index->second.empty()) {
      auto parsed = parse_json(index->second);
      if (!parsed.ok()) return std::move(parsed).error().with_context(failed);
      json = *std::move(parsed);
    }
    if (json.is_null()) json = nlohmann::json::object();
    if (!json.is_object()) return invalid(failed);
    auto list = json.contains("Platforms") ? json["Platforms"] : nlohmann::json::array();
    if (!list.is_array() || list.empty()) return invalid("invalid empty platforms index for exporter");
    for (const auto& entry : list) {
      if (text_member(entry, "ID").empty()) return invalid("invalid empty platform key for exporter");
      auto p = platform_of(entry.contains("Platform") ? entry["Platform"] : nlohmann::json());
      if (p.os.empty() || p.architecture.empty())
        return invalid("invalid platform value {" + p.architecture + " " + p.os + " " + p.os_version +
                       " [] " + p.variant + "} for exporter");
      out.push_back(normalize(std::move(p)));
    }
    return out;
  }
  platform p = host_platform();
  if (auto config = metadata.find("containerimage.config"); config != metadata.end()) {
    auto json = parse_json(config->second);
    if (!json.ok())
      return std::move(json).error().with_context("failed to parse the image config of the result");
    auto named = platform_of(*json);
    if (named.os.empty() != named.architecture.empty())
      return invalid("invalid image config: os and architecture must be specified together");
    p = named;
  }
  out.push_back(p.os.empty() ? p : normalize(std::move(p)));
  return out;
}

std::string joined(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  return join(names, ",");
}

}  // namespace

result<std::vector<std::string>> verify_platforms(const std::map<std::string, std::string>& frontend_options,
                                                  const std::map<std::string, std::string>& metadata,
                                                  bool multi, bool empty) {
  std::vector<std::string> warnings;
  if (!metadata.contains("refs.platforms")) {
    if (multi)
      return make_error(errc::unknown, "build result contains multiple refs without platforms mapping");
    if (empty) return warnings;
  }
  KILN_TRY(auto found, result_platforms(metadata));

  std::vector<std::string> requested;
  if (auto text = frontend_options.find("platform"); text != frontend_options.end()) {
    for (std::size_t at = 0; at <= text->second.size();) {
      auto comma = std::min(text->second.find(',', at), text->second.size());
      requested.push_back(text->second.substr(at, comma - at));
      at = comma + 1;
    }
  } else {
    requested.push_back(format_platform(host_platform()));
  }
  std::set<std::string> wanted;
  std::vector<std::string> wanted_list;
  platform last;
  for (const auto& text : requested) {
    auto p = parse_platform(text);
    if (!p.ok())
      warnings.push_back("Invalid platform result requested \"" + text + "\": " + p.error().message);
    last = p.ok() ? *p : platform{};
    auto name = format_all(last);
    if (!wanted.insert(name).second)
      warnings.push_back("Duplicate platform result requested \"" + text + "\"");
    wanted_list.push_back(name);
  }
  if (!warnings.empty()) return warnings;

  std::vector<std::string> names;
  for (const auto& p : found) names.push_back(format_all(p));
  if (wanted.size() == 1 && found.size() == 1) {
    auto p = found.front();
    // Nobody asks for an OS version; a result may well have one.
    if (last.os_version.empty()) p.os_version.clear();
    if (!wanted.contains(names.front()) && !wanted.contains(format_all(p)))
      warnings.push_back("Requested platform \"" + requested.front() +
                         "\" does not match result platform \"" + format_all(p) + "\"");
    return warnings;
  }
  if (!multi && wanted.size() > 1) {
    warnings.push_back("Multiple platforms requested but result is not multi-platform");
    return warnings;
  }
  bool mismatch = wanted.size() != found.size() ||
                  std::any_of(names.begin(), names.end(), [&](const auto& n) { return !wanted.contains(n); });
  if (mismatch)
    warnings.push_back("Requested platforms " + joined(wanted_list) + " do not match result platforms " +
                       joined(names));
  return warnings;
}

}  // namespace kiln::actors
