#include "base/plain_text.hpp"

#include <cstdio>

#include "base/utf8.hpp"

namespace kiln {
namespace {

bool is_control(char32_t c) { return c < 0x20 || (c >= 0x7F && c < 0xA0); }

/// Line and paragraph separators, and what turns the direction of the text around it.
bool is_layout(char32_t c) {
  return c == 0x2028 || c == 0x2029 || c == 0x200E || c == 0x200F || c == 0x061C ||
         (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

std::string escaped(char32_t c) {
  switch (c) {
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    default: break;
  }
  char text[12];
  std::snprintf(text, sizeof text, c < 0x100 ? "\\x%02x" : "\\u%04x", static_cast<unsigned>(c));
  return text;
}

std::string cleaned(std::string_view text, std::string_view kept) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    char32_t c = next_code_point(text, i);
    bool keep = c < 0x80 && kept.find(static_cast<char>(c)) != kept.npos;
    if (!keep && (is_control(c) || is_layout(c))) out += escaped(c);
    else append_utf8(out, c);
  }
  return out;
}

/// How long the control sequence at the start of the text is ("ESC [ … final"); 0 when it does not end.
std::size_t sequence_length(std::string_view text) {
  if (text.size() < 2) return 0;
  if (text[1] == ']' || text[1] == 'P' || text[1] == '_' || text[1] == '^' || text[1] == 'X') {
    auto bell = text.find('\a'), end = text.find("\x1b\\", 2);
    if (bell < end) return bell + 1;
    return end == text.npos ? 0 : end + 2;
  }
  if (text[1] != '[') return 2;
  for (std::size_t i = 2; i < text.size(); ++i)
    if (text[i] >= 0x40 && text[i] <= 0x7E) return i + 1;
  return 0;
}

/// "ESC [ 1;31 m": colours and weights.
bool is_colour(std::string_view sequence) {
  return sequence.starts_with("\x1b[") && sequence.ends_with('m') &&
         sequence.substr(2, sequence.size() - 3).find_first_not_of("0123456789;:") == std::string_view::npos;
}

}  // namespace

std::string one_line(std::string_view text) { return cleaned(text, ""); }

std::string printable(std::string_view text) { return cleaned(text, "\n\t"); }

std::string output_line(std::string_view text) {
  while (text.ends_with('\r')) text.remove_suffix(1);
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == '\x1b') {
      auto length = sequence_length(text.substr(i));
      if (auto sequence = text.substr(i, length); is_colour(sequence)) out += sequence;
      i += length == 0 ? 1 : length;
      continue;
    }
    char32_t c = next_code_point(text, i);
    // A progress bar's start over, which would otherwise go over what is before it.
    if (c == '\r') out += ' ';
    else if (c == '\t' || !is_control(c)) append_utf8(out, c);
  }
  return out;
}

}  // namespace kiln
