#include "client/progress/colors.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/csv.hpp"
#include "base/text.hpp"

namespace kiln::client {
namespace {

constexpr std::pair<std::string_view, int> color_names[] = {
    {"default", 39},     {"black", 30},       {"blue", 34},        {"cyan", 36},          {"green", 32},
    {"magenta", 35},     {"red", 31},         {"white", 37},       {"yellow", 33},        {"light-black", 90},
    {"light-blue", 94},  {"light-cyan", 96},  {"light-green", 92}, {"light-magenta", 95}, {"light-red", 91},
    {"light-white", 97}, {"light-yellow", 93}};

std::string sgr(int code) { return fmt::format("\x1b[{}m", code); }

// "r,g,b" to the nearest of the 216 colours every 256-colour terminal has.
std::optional<std::string> rgb(std::string_view text, std::vector<std::string>& complaints) {
  auto fields = split_csv(text);
  if (!fields.ok() || fields->size() != 3) {
    complaints.push_back(fmt::format("BUILDKIT_COLORS: valid RGB color must have three fields: {}", text));
    return std::nullopt;
  }
  int parts[3];
  for (std::size_t i = 0; i < 3; ++i) {
    const auto& field = (*fields)[i];
    auto [end, err] = std::from_chars(field.data(), field.data() + field.size(), parts[i]);
    if (err != std::errc() || end != field.data() + field.size() || parts[i] < 0 || parts[i] > 255) {
      complaints.push_back(
          fmt::format("BUILDKIT_COLORS: an RGB value must be three integers from 0 to 255: {}", text));
      return std::nullopt;
    }
  }
  auto level = [](int v) { return v * 5 / 255; };
  return fmt::format("\x1b[38;5;{}m", 16 + 36 * level(parts[0]) + 6 * level(parts[1]) + level(parts[2]));
}

}  // namespace

color_scheme default_colors() { return {sgr(36), sgr(33), sgr(31), sgr(33), sgr(2), sgr(0)}; }

color_scheme parse_colors(std::string_view spec, std::vector<std::string>& complaints) {
  auto scheme = default_colors();
  if (spec.empty()) return scheme;
  auto entries = split_csv(spec, ':');
  if (!entries.ok()) {
    complaints.push_back("BUILDKIT_COLORS: " + entries.error().message);
    return scheme;
  }
  for (const auto& entry : *entries) {
    auto equals = entry.find('=');
    if (equals == std::string::npos || entry.find('=', equals + 1) != std::string::npos) {
      complaints.push_back("BUILDKIT_COLORS: an entry must be key=color: " + entry);
      continue;
    }
    auto key = to_lower(entry.substr(0, equals));
    auto value = to_lower(entry.substr(equals + 1));
    std::optional<std::string> code;
    auto named = std::find_if(std::begin(color_names), std::end(color_names),
                              [&](const auto& c) { return c.first == value; });
    if (named != std::end(color_names)) code = sgr(named->second);
    else if (value.find(',') != std::string::npos) code = rgb(value, complaints);
    else complaints.push_back("BUILDKIT_COLORS: unknown color: " + entry);
    if (!code) continue;
    if (key == "run") scheme.run = *code;
    else if (key == "cancel") scheme.cancel = *code;
    else if (key == "error") scheme.error = *code;
    else if (key == "warning") scheme.warning = *code;
    else
      complaints.push_back("BUILDKIT_COLORS: unknown key (expected: run, cancel, error, or warning): " + key);
  }
  return scheme;
}

}  // namespace kiln::client
