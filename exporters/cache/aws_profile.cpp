#include "exporters/cache/aws_profile.hpp"

#include <optional>
#include <utility>
#include <vector>

#include "base/text.hpp"

namespace kiln::exporters {
namespace {

bool blank(char c) { return c == ' ' || c == '\t'; }

/// Up to a comment, which begins a line or stands behind a blank.
std::string_view without_comment(std::string_view line) {
  for (std::size_t i = 0; i < line.size(); ++i)
    if ((line[i] == '#' || line[i] == ';') && (i == 0 || blank(line[i - 1]))) return line.substr(0, i);
  return line;
}

/// Sections of INI text with their settings, in their order.
std::vector<std::pair<std::string, aws_settings>> sections_of(std::string_view text) {
  std::vector<std::pair<std::string, aws_settings>> out;
  while (!text.empty()) {
    auto end = std::min(text.find('\n'), text.size());
    auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    bool nested = !line.empty() && blank(line.front());  // belongs to the setting above
    line = without_comment(line);
    auto plain = trim(line);
    if (plain.empty() || nested) continue;
    if (plain.front() == '[') {
      out.emplace_back(trim(plain.substr(1, std::min(plain.find(']'), plain.size()) - 1)), aws_settings());
      continue;
    }
    auto equals = plain.find('=');
    if (out.empty() || equals == plain.npos) continue;
    auto name = to_lower(trim(plain.substr(0, equals)));
    out.back().second[name] = trim(plain.substr(equals + 1));
  }
  return out;
}

/// "main" of "profile main" or of `profile "main"`; nothing when the section is of another kind.
std::optional<std::string> named(std::string_view section, std::string_view kind) {
  if (!section.starts_with(kind) || section.size() == kind.size() || !blank(section[kind.size()])) return {};
  auto name = trim(section.substr(kind.size()));
  if (name.size() >= 2 && (name.front() == '"' || name.front() == '\'') && name.back() == name.front())
    name = name.substr(1, name.size() - 2);
  return std::string(name);
}

}  // namespace

aws_files read_aws_files(std::string_view config, std::string_view credentials) {
  aws_files out;
  for (auto& [section, settings] : sections_of(config)) {
    if (auto session = named(section, "sso-session")) {
      for (auto& [name, value] : settings) out.sso_sessions[*session][name] = value;
    } else if (auto profile = section == "default" ? std::optional(section) : named(section, "profile")) {
      for (auto& [name, value] : settings) out.profiles[*profile][name] = value;
    }
  }
  for (auto& [section, settings] : sections_of(credentials)) {
    // The parts of a key are never taken from two files.
    if (settings.contains("aws_access_key_id"))
      for (const char* part : {"aws_access_key_id", "aws_secret_access_key", "aws_session_token"})
        out.profiles[section].erase(part);
    for (auto& [name, value] : settings) out.profiles[section][name] = value;
  }
  return out;
}

}  // namespace kiln::exporters
