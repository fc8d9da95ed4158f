// How many terminal columns UTF-8 text takes, and cutting it to fit. Pure; independent of the locale.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace kiln::client {

/// Columns of a code point: 0 (combining), 1 or 2 (East Asian wide, emoji); 0 for control characters.
int code_point_width(char32_t c);
/// Columns of the text.
std::size_t text_width(std::string_view text);
/// The longest prefix that fits into `columns`; when something is cut the prefix ends in `mark`.
/// Control characters and malformed bytes never pass: they become spaces and U+FFFD.
std::string fit_text(std::string_view text, std::size_t columns, std::string_view mark = "…");

}  // namespace kiln::client
