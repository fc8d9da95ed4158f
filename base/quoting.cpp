#include "base/quoting.hpp"

#include "base/text.hpp"
#include "base/utf8.hpp"

namespace kiln {
namespace {

constexpr char hex[] = "0123456789abcdef";

/// Characters of several bytes that %q shows by number: what one would not see.
bool is_unseen(char32_t c) {
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000 || c == 0xfeff;
}

/// A character of one byte, or a byte that is none.
void append_quoted(std::string& out, unsigned char byte) {
  switch (byte) {
    case '"': out += "\\\""; return;
    case '\\': out += "\\\\"; return;
    case '\a': out += "\\a"; return;
    case '\b': out += "\\b"; return;
    case '\f': out += "\\f"; return;
    case '\n': out += "\\n"; return;
    case '\r': out += "\\r"; return;
    case '\t': out += "\\t"; return;
    case '\v': out += "\\v"; return;
    default: break;
  }
  if (byte >= 0x20 && byte < 0x7f) {
    out += static_cast<char>(byte);
  } else {
    out += "\\x";
    out += hex[byte >> 4];
    out += hex[byte & 15];
  }
}

void append_json(std::string& out, unsigned char c, bool html) {
  switch (c) {
    case '"': out += "\\\""; return;
    case '\\': out += "\\\\"; return;
    case '\b': out += "\\b"; return;
    case '\f': out += "\\f"; return;
    case '\n': out += "\\n"; return;
    case '\r': out += "\\r"; return;
    case '\t': out += "\\t"; return;
    default: break;
  }
  if (c < 0x20 || (html && (c == '<' || c == '>' || c == '&'))) {
    out += "\\u00";
    out += hex[c >> 4];
    out += hex[c & 15];
  } else {
    out += static_cast<char>(c);
  }
}

std::string json_string(std::string_view text, bool html, bool exact) {
  std::string out = "\"";
  while (!text.empty()) {
    auto length = utf8_length(text);
    auto character = text.substr(0, length);
    if (length == 0) {
      if (exact) out += text[0];
      else out += "\\ufffd";
      length = 1;
    } else if (length == 1) {
      append_json(out, static_cast<unsigned char>(text[0]), html);
    } else if (character == "\xe2\x80\xa8") {
      out += "\\u2028";
    } else if (character == "\xe2\x80\xa9") {
      out += "\\u2029";
    } else {
      out += character;
    }
    text.remove_prefix(length);
  }
  return out + "\"";
}

}  // namespace

std::string quote(std::string_view text) {
  std::string out = "\"";
  for (std::size_t i = 0; i < text.size();) {
    auto c = first_code_point(text.substr(i));
    if (c.width == 1) {
      append_quoted(out, static_cast<unsigned char>(text[i]));
    } else if (is_unseen(c.value)) {
      out += "\\u";
      for (int shift = 12; shift >= 0; shift -= 4) out += hex[c.value >> shift & 15];
    } else {
      out += text.substr(i, c.width);
    }
    i += c.width;
  }
  return out + "\"";
}

std::string quote(const std::vector<std::string>& items) {
  std::vector<std::string> quoted;
  quoted.reserve(items.size());
  for (const auto& item : items) quoted.push_back(quote(std::string_view(item)));
  return bracketed(quoted);
}

std::string bracketed(const std::vector<std::string>& items) { return "[" + join(items, " ") + "]"; }

std::string go_json_string(std::string_view text, bool html) { return json_string(text, html, false); }

std::string exact_json_string(std::string_view text) { return json_string(text, true, true); }

}  // namespace kiln
