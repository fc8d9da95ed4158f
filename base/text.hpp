// Text in parts: joined, split, cut, trimmed; letters of one case (ASCII only); bytes as hexadecimal digits.
// Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace kiln {

/// The parts, with the separator between each two of them.
template <class Range>
std::string join(const Range& parts, std::string_view separator) {
  std::string out;
  bool first = true;
  for (const auto& part : parts) {
    if (!first) out += separator;
    first = false;
    out += part;
  }
  return out;
}

/// What lies between the separators: always at least one part, which may be empty.
std::vector<std::string> split(std::string_view text, char separator);
/// The same, as views into the text.
std::vector<std::string_view> split_views(std::string_view text, char separator);

/// Text before and after the first separator, and whether there was one.
struct cut_result {
  std::string before, after;
  bool found = false;
};
cut_result cut(std::string_view text, std::string_view separator);

inline constexpr std::string_view blanks = " \t\r\n\v\f";
/// Without what the text begins and ends with of `dropped`.
std::string_view trim(std::string_view text, std::string_view dropped = blanks);
/// The same at its end only.
std::string_view trim_right(std::string_view text, std::string_view dropped = blanks);

/// Letters other than ASCII's stay.
std::string to_lower(std::string_view text);
std::string to_upper(std::string_view text);
/// Whether both are equal but for the case of ASCII letters.
bool equal_fold(std::string_view a, std::string_view b);

/// Two lower-case digits a byte.
std::string to_hex(std::string_view bytes);

}  // namespace kiln
