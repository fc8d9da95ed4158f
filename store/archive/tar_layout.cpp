#include "store/archive/tar_layout.hpp"

#include <limits>

#include "base/numbers.hpp"

namespace kiln::store::tar {

using namespace std::literals;

std::optional<std::int64_t> octal(std::string_view digits) {
  constexpr auto fill = " \0"sv;
  auto first = digits.find_first_not_of(fill);
  if (first == std::string_view::npos) return 0;
  digits = until_nul(digits.substr(first, digits.find_last_not_of(fill) - first + 1));
  auto value = parse_uint(digits, 8, std::numeric_limits<std::uint64_t>::max());
  if (!value) return std::nullopt;
  return static_cast<std::int64_t>(*value);
}

std::optional<std::int64_t> number(std::string_view digits) {
  if ((digits[0] & 0x80) == 0) return octal(digits);
  bool negative = (digits[0] & 0x40) != 0;
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    auto byte = static_cast<unsigned char>(digits[i]);
    if (negative) byte = static_cast<unsigned char>(~byte);
    if (i == 0) byte &= 0x7f;
    if (value >> 56 != 0) return std::nullopt;
    value = value << 8 | byte;
  }
  if (value >> 63 != 0) return std::nullopt;
  return static_cast<std::int64_t>(negative ? ~value : value);
}

}  // namespace kiln::store::tar
