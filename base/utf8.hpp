// UTF-8, taken strictly: no overlong forms, no surrogates, nothing above U+10FFFF. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace kiln {

/// Bytes of the character that the text (not empty) begins with; 0 when it begins with none.
std::size_t utf8_length(std::string_view text);

bool is_valid_utf8(std::string_view text);
/// The text with every byte that is no part of a character replaced by U+FFFD; Go clients refuse anything
/// else in a string field.
std::string valid_utf8(std::string_view text);

/// One character at the front of the text (not empty), and how many bytes it takes. A byte that begins none
/// stands for itself, one byte wide.
struct code_point {
  char32_t value;
  std::size_t width;
};
code_point first_code_point(std::string_view text);
/// Decodes the character at `offset` and moves past it; U+FFFD for a byte that begins none.
char32_t next_code_point(std::string_view text, std::size_t& offset);
void append_utf8(std::string& out, char32_t code_point);

}  // namespace kiln
