#include "configs/units.hpp"

#include <cctype>
#include <cmath>
#include <cstdlib>

#include "base/text.hpp"

namespace kiln::configs {

namespace {

error invalid(std::string_view text) {
  return make_error(errc::invalid_argument, "invalid disk size \"" + std::string(text) + "\"");
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

result<std::int64_t> parse_disk_space(std::string_view text, std::int64_t disk_total) {
  auto rest = text;
  double value = 0;
  if (!take_number(rest, value)) return invalid(text);
  while (!rest.empty() && rest[0] == ' ') rest.remove_prefix(1);
  if (rest == "%") {
    if (value > 100) return invalid(text);
    if (disk_total <= 0) return std::int64_t{2'000'000'000};
    auto bytes = static_cast<std::int64_t>(static_cast<double>(disk_total) * value / 100);
    return (bytes / (std::int64_t{1} << 30) + 1) * 1'000'000'000;
  }
  auto unit = to_lower(rest);
  if (!unit.empty() && unit.back() == 'b') unit.pop_back();
  if (!unit.empty() && unit.size() == 2 && unit[1] == 'i') unit.pop_back();
  static constexpr std::string_view order = "kmgtp";
  double factor = 1;
  if (!unit.empty()) {
    auto at = order.find(unit);
    if (unit.size() != 1 || at == std::string_view::npos) return invalid(text);
    factor = std::pow(1024.0, static_cast<double>(at) + 1);
  }
  if (value * factor > 9.2e18) return invalid(text);
  return static_cast<std::int64_t>(value * factor);
}

}  // namespace kiln::configs
