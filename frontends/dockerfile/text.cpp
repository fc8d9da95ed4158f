#include "frontends/dockerfile/text.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace kiln::dockerfile {

bool is_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

std::string_view trim_space_left(std::string_view text) {
  while (!text.empty()) {
    auto c = first_code_point(text);
    if (!is_space(c.value) || (c.width == 1 && c.value >= 0x80)) break;
    text.remove_prefix(c.width);
  }
  return text;
}

std::string_view trim_space(std::string_view text) {
  text = trim_space_left(text);
  while (!text.empty()) {
    std::size_t start = text.size() - 1;
    while (start > 0 && text.size() - start < 4 && (text[start] & 0xc0) == 0x80) --start;
    auto c = first_code_point(text.substr(start));
    if (start + c.width != text.size() || !is_space(c.value) || (c.width == 1 && c.value >= 0x80)) break;
    text.remove_suffix(c.width);
  }
  return text;
}

result<std::int64_t> ram_in_bytes(std::string_view text) {
  auto invalid = [&] {
    return make_error(errc::invalid_argument, "invalid size: '" + std::string(text) + "'");
  };
  auto end = text.find_last_of("0123456789. ");
  if (end == std::string_view::npos) return invalid();
  auto number = text.substr(0, text[end] == ' ' ? end : end + 1);
  auto unit = to_lower(text.substr(end + 1));
  if (number.empty() || number.find_first_not_of("0123456789.") != std::string_view::npos ||
      std::count(number.begin(), number.end(), '.') > 1 || number == ".")
    return invalid();
  int shift = 0;
  if (unit.ends_with("ib")) unit.resize(unit.size() - 2);
  else if (unit.ends_with('b')) unit.pop_back();
  if (unit.size() > 1) return invalid();
  if (!unit.empty()) {
    auto at = std::string_view("kmgtp").find(unit[0]);
    if (at == std::string_view::npos) return invalid();
    shift = 10 * (static_cast<int>(at) + 1);
  }
  auto value = std::strtold(std::string(number).c_str(), nullptr) * std::ldexp(1.0L, shift);
  if (value > 9.2e18L) return invalid();
  return static_cast<std::int64_t>(value);
}

}  // namespace kiln::dockerfile
