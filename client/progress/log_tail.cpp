#include "client/progress/log_tail.hpp"

namespace kiln::client {

void log_tail::put(char c) {
  if (rewrite_) {
    line_.clear();
    rewrite_ = false;
  }
  if (line_.size() < line_bytes_max) line_.push_back(c);
}

// Only what changes the current line matters; colours and cursor movements are dropped.
void log_tail::control(char final) {
  if (final == 'K' || final == 'J') rewrite_ = true;
}

void log_tail::write(std::string_view bytes) {
  for (char c : bytes) {
    auto u = static_cast<unsigned char>(c);
    switch (mode_) {
      case mode::escape:
        mode_ = c == '['                                                   ? mode::control_sequence
                : c == ']' || c == 'P' || c == '_' || c == '^' || c == 'X' ? mode::string_sequence
                                                                           : mode::text;
        // "ESC ( B" and the like carry one more byte.
        if (c == '(' || c == ')' || c == '#' || c == ' ') mode_ = mode::escape;
        continue;
      case mode::control_sequence:
        if (u >= 0x40 && u <= 0x7E) {
          control(c);
          mode_ = mode::text;
        }
        continue;
      case mode::string_sequence:
        if (c == '\a') mode_ = mode::text;
        if (c == '\x1b') mode_ = mode::string_escape;
        continue;
      case mode::string_escape: mode_ = c == '\\' ? mode::text : mode::string_sequence; continue;
      case mode::text: break;
    }
    switch (c) {
      case '\x1b': mode_ = mode::escape; break;
      case '\n':
        lines_.push_back(std::move(line_));
        line_.clear();
        rewrite_ = false;
        while (lines_.size() > height_) lines_.pop_front();
        break;
      case '\r': rewrite_ = true; break;
      case '\b':
        while (!line_.empty() && (static_cast<unsigned char>(line_.back()) & 0xC0) == 0x80) line_.pop_back();
        if (!line_.empty()) line_.pop_back();
        break;
      case '\t':
        do put(' ');
        while (line_.size() % 8 != 0 && line_.size() < line_bytes_max);
        break;
      default:
        if (u >= 0x20 && u != 0x7F) put(c);
    }
  }
}

std::vector<std::string> log_tail::last(std::size_t count) const {
  auto blank = [](const std::string& s) { return s.find_first_not_of(' ') == std::string::npos; };
  std::vector<std::string> out;
  if (!blank(line_)) out.push_back(line_);
  for (auto it = lines_.rbegin(); it != lines_.rend() && out.size() < count; ++it)
    if (!blank(*it)) out.push_back(*it);
  if (out.size() > count) out.resize(count);
  return {out.rbegin(), out.rend()};
}

}  // namespace kiln::client
