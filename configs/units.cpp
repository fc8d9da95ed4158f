#include "configs/units.hpp"

#include <cctype>
#include <cmath>
#include <cstdlib>
#include <map>

namespace kiln::configs {

namespace {

error invalid(std::string_view what, std::string_view text) {
  return make_error(errc::invalid_argument, "invalid " + std::string(what) + " \"" + std::string(text) + "\"");
}

/// Reads a decimal number with optional fraction off the front.
bool take_number(std::string_view& text, double& value) {
  std::size_t n = 0;
  bool digits = false;
  while (n < text.size() && (std::isdigit(static_cast<unsigned char>(text[n])) || text[n] == '.')) {
    digits |= text[n] != '.';
    ++n;
  }
  if (!digits) return false;
  std::string number(text.substr(0, n));
  char* end = nullptr;
  value = std::strtod(number.c_str(), &end);
  if (*end != 0) return false;
  text.remove_prefix(n);
  return true;
}

}  // namespace

result<std::int64_t> parse_duration_ns(std::string_view text) {
  static const std::map<std::string_view, double> units = {
      {"ns", 1},  {"us", 1e3}, {"µs", 1e3},  {"μs", 1e3},
      {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}};
  auto rest = text;
  bool negative = false;
  if (!rest.empty() && (rest[0] == '-' || rest[0] == '+')) {
    negative = rest[0] == '-';
    rest.remove_prefix(1);
  }
  if (rest == "0") return std::int64_t{0};
  if (rest.empty()) return invalid("duration", text);
  double total = 0;
  while (!rest.empty()) {
    double value = 0;
    if (!take_number(rest, value)) return invalid("duration", text);
    std::size_t n = 0;
    while (n < rest.size() && rest[n] != '.' && !std::isdigit(static_cast<unsigned char>(rest[n]))) ++n;
    auto unit = units.find(rest.substr(0, n));
    if (unit == units.end()) return invalid("duration", text);
    total += value * unit->second;
    rest.remove_prefix(n);
  }
  if (total > 9.2e18) return invalid("duration", text);
  auto ns = static_cast<std::int64_t>(std::llround(total));
  return negative ? -ns : ns;
}

std::string format_duration(std::int64_t ns) {
  if (ns == 0) return "0s";
  std::string sign = ns < 0 ? "-" : "";
  if (ns < 0) ns = -ns;
  auto decimal = [](double value) {
    char buffer[40];
    std::snprintf(buffer, sizeof buffer, "%.9f", value);
    std::string text = buffer;
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
    return text;
  };
  if (ns < 1'000) return sign + std::to_string(ns) + "ns";
  if (ns < 1'000'000) return sign + decimal(static_cast<double>(ns) / 1e3) + "µs";
  if (ns < 1'000'000'000) return sign + decimal(static_cast<double>(ns) / 1e6) + "ms";
  auto hours = ns / 3'600'000'000'000;
  auto minutes = ns / 60'000'000'000 % 60;
  auto seconds = decimal(static_cast<double>(ns % 60'000'000'000) / 1e9) + "s";
  if (hours) return sign + std::to_string(hours) + "h" + std::to_string(minutes) + "m" + seconds;
  if (minutes) return sign + std::to_string(minutes) + "m" + seconds;
  return sign + seconds;
}

result<std::int64_t> parse_disk_space(std::string_view text, std::int64_t disk_total) {
  auto rest = text;
  double value = 0;
  if (!take_number(rest, value)) return invalid("disk size", text);
  while (!rest.empty() && rest[0] == ' ') rest.remove_prefix(1);
  if (rest == "%") {
    if (value > 100) return invalid("disk size", text);
    if (disk_total <= 0) return std::int64_t{2'000'000'000};
    auto bytes = static_cast<std::int64_t>(static_cast<double>(disk_total) * value / 100);
    return (bytes / (std::int64_t{1} << 30) + 1) * 1'000'000'000;
  }
  std::string unit;
  for (char c : rest) unit += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (!unit.empty() && unit.back() == 'b') unit.pop_back();
  if (!unit.empty() && unit.size() == 2 && unit[1] == 'i') unit.pop_back();
  static constexpr std::string_view order = "kmgtp";
  double factor = 1;
  if (!unit.empty()) {
    auto at = order.find(unit);
    if (unit.size() != 1 || at == std::string_view::npos) return invalid("disk size", text);
    factor = std::pow(1024.0, static_cast<double>(at) + 1);
  }
  if (value * factor > 9.2e18) return invalid("disk size", text);
  return static_cast<std::int64_t>(value * factor);
}

}  // namespace kiln::configs
