#include "base/duration.hpp"

#include <charconv>
#include <utility>

#include "base/quoting.hpp"

namespace kiln {
namespace {

constexpr std::uint64_t nanoseconds_max = std::uint64_t{1} << 63;  // of the negative ones
constexpr std::size_t decimals_max = 18;                           // further ones count for nothing

/// 0 for a unit that Go does not know.
std::uint64_t unit_ns(std::string_view unit) {
  static constexpr std::pair<std::string_view, std::uint64_t> units[] = {
      {"ns", 1},         {"us", 1'000},        {"µs", 1'000},         {"μs", 1'000},
      {"ms", 1'000'000}, {"s", 1'000'000'000}, {"m", 60'000'000'000}, {"h", 3'600'000'000'000}};
  for (const auto& [name, length] : units)
    if (unit == name) return length;
  return 0;
}

std::string_view take_digits(std::string_view& rest) {
  auto digits = rest.substr(0, rest.find_first_not_of("0123456789"));
  rest.remove_prefix(digits.size());
  return digits;
}

/// The number before and behind its point, times the unit; false when that is more than there can be.
bool scaled(std::string_view whole, std::string_view decimals, std::uint64_t unit, std::uint64_t& out) {
  std::uint64_t number = 0;
  if (!whole.empty() && std::from_chars(whole.data(), whole.data() + whole.size(), number).ec != std::errc{})
    return false;
  if (number > nanoseconds_max / unit) return false;
  out = number * unit;
  double part = 0, scale = 1;
  for (char c : decimals.substr(0, decimals_max)) part = part * 10 + (c - '0'), scale *= 10;
  out += static_cast<std::uint64_t>(part * (static_cast<double>(unit) / scale));
  return out <= nanoseconds_max;
}

/// "5.25s": a whole and a part below it, as so many digits as it takes.
std::string fraction(std::uint64_t whole, std::uint64_t part, std::uint64_t scale, const char* unit) {
  auto text = std::to_string(whole);
  if (part != 0) {
    auto digits = std::to_string(part + scale).substr(1);
    digits.erase(digits.find_last_not_of('0') + 1);
    text += "." + digits;
  }
  return text + unit;
}

}  // namespace

result<std::int64_t> parse_duration(std::string_view text) {
  auto wrong = [&](const std::string& what) {
    return make_error(errc::invalid_argument, "time: " + what + quote(text));
  };
  auto rest = text;
  bool negative = rest.starts_with('-');
  if (negative || rest.starts_with('+')) rest.remove_prefix(1);
  if (rest == "0") return std::int64_t{0};
  if (rest.empty()) return wrong("invalid duration ");
  std::uint64_t total = 0;
  while (!rest.empty()) {
    auto whole = take_digits(rest);
    std::string_view decimals;
    if (rest.starts_with('.')) {
      rest.remove_prefix(1);
      decimals = take_digits(rest);
    }
    if (whole.empty() && decimals.empty()) return wrong("invalid duration ");
    auto name = rest.substr(0, rest.find_first_of("0123456789."));
    if (name.empty()) return wrong("missing unit in duration ");
    auto unit = unit_ns(name);
    if (unit == 0) return wrong("unknown unit " + quote(name) + " in duration ");
    rest.remove_prefix(name.size());
    std::uint64_t part = 0;
    if (!scaled(whole, decimals, unit, part) || part > nanoseconds_max - total)
      return wrong("invalid duration ");
    total += part;
  }
  if (!negative && total == nanoseconds_max) return wrong("invalid duration ");
  return static_cast<std::int64_t>(negative ? 0 - total : total);
}

std::string format_duration(std::int64_t ns) {
  if (ns == 0) return "0s";
  std::string sign = ns < 0 ? "-" : "";
  auto u = static_cast<std::uint64_t>(ns);
  if (ns < 0) u = 0 - u;
  if (u < 1'000) return sign + std::to_string(u) + "ns";
  if (u < 1'000'000) return sign + fraction(u / 1'000, u % 1'000, 1'000, "µs");
  if (u < 1'000'000'000) return sign + fraction(u / 1'000'000, u % 1'000'000, 1'000'000, "ms");
  auto seconds = u / 1'000'000'000;
  auto text = fraction(seconds % 60, u % 1'000'000'000, 1'000'000'000, "s");
  if (seconds >= 60) text = std::to_string(seconds / 60 % 60) + "m" + text;
  if (seconds >= 3600) text = std::to_string(seconds / 3600) + "h" + text;
  return sign + text;
}

}  // namespace kiln
