#include "client/commands/tab_writer.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace kiln::client {
namespace {

// Go counts code points.
std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace

void tab_writer::write(std::string_view text) { text_ += text; }

std::string tab_writer::flush() {
  lines_.clear();
  widths_.clear();
  for (const auto& line : split(text_, '\n')) lines_.push_back(split(line, '\t'));
  text_.clear();
  std::string out;
  format(0, lines_.size(), out);
  out.pop_back();  // the newline after the last, unfinished line
  return out;
}

// A column is a run of lines that have a tab-terminated cell at this position.
void tab_writer::format(std::size_t first, std::size_t last, std::string& out) {
  std::size_t column = widths_.size();
  auto has_cell = [&](std::size_t line) { return column + 1 < lines_[line].size(); };
  for (std::size_t at = first; at < last; ++at) {
    if (!has_cell(at)) continue;
    write_lines(first, at, out);
    first = at;
    std::size_t width = min_width_;
    for (; at < last && has_cell(at); ++at) width = std::max(width, width_of(lines_[at][column]) + padding_);
    widths_.push_back(width);
    format(first, at, out);
    widths_.pop_back();
    first = at;
  }
  write_lines(first, last, out);
}

void tab_writer::write_lines(std::size_t first, std::size_t last, std::string& out) const {
  for (std::size_t i = first; i < last; ++i) {
    for (std::size_t j = 0; j < lines_[i].size(); ++j) {
      out += lines_[i][j];
      if (j < widths_.size() && j + 1 < lines_[i].size()) out += padding(width_of(lines_[i][j]), widths_[j]);
    }
    out += '\n';
  }
}

std::string tab_writer::padding(std::size_t text_width, std::size_t cell_width) const {
  if (pad_ != '\t') return std::string(cell_width - text_width, pad_);
  cell_width = (cell_width + tab_width_ - 1) / tab_width_ * tab_width_;
  return std::string((cell_width - text_width + tab_width_ - 1) / tab_width_, '\t');
}

}  // namespace kiln::client
