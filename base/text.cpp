#include "base/text.hpp"

#include <algorithm>

namespace kiln {
namespace {

template <class Part>
std::vector<Part> split_into(std::string_view text, char separator) {
  std::vector<Part> out;
  for (;;) {
    auto at = text.find(separator);
    out.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) return out;
    text.remove_prefix(at + 1);
  }
}

}  // namespace

std::vector<std::string> split(std::string_view text, char separator) {
  return split_into<std::string>(text, separator);
}

std::vector<std::string_view> split_views(std::string_view text, char separator) {
  return split_into<std::string_view>(text, separator);
}

cut_result cut(std::string_view text, std::string_view separator) {
  auto at = text.find(separator);
  if (at == std::string_view::npos) return {std::string(text), "", false};
  return {std::string(text.substr(0, at)), std::string(text.substr(at + separator.size())), true};
}

std::string_view trim(std::string_view text, std::string_view dropped) {
  text.remove_prefix(std::min(text.find_first_not_of(dropped), text.size()));
  return trim_right(text, dropped);
}

std::string_view trim_right(std::string_view text, std::string_view dropped) {
  return text.substr(0, text.find_last_not_of(dropped) + 1);
}

std::string to_lower(std::string_view text) {
  std::string out(text);
  for (auto& c : out)
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
  return out;
}

std::string to_upper(std::string_view text) {
  std::string out(text);
  for (auto& c : out)
    if (c >= 'a' && c <= 'z') c -= 'a' - 'A';
  return out;
}

bool equal_fold(std::string_view a, std::string_view b) {
  return a.size() == b.size() && to_lower(a) == to_lower(b);
}

std::string to_hex(std::string_view bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (unsigned char c : bytes) {
    out += digits[c >> 4];
    out += digits[c & 15];
  }
  return out;
}

}  // namespace kiln
