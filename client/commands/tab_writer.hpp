// Aligns tab-separated cells into columns exactly as Go's text/tabwriter, whose output scripts parse.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace kiln::client {

class tab_writer {
 public:
  /// `pad` is '\t' or ' '; widths in columns.
  tab_writer(std::size_t min_width, std::size_t tab_width, std::size_t padding, char pad)
      : min_width_(min_width), tab_width_(tab_width), padding_(padding), pad_(pad) {}

  void write(std::string_view text);
  /// What was written since the last flush, aligned.
  std::string flush();

 private:
  void format(std::size_t first, std::size_t last, std::string& out);
  void write_lines(std::size_t first, std::size_t last, std::string& out) const;
  std::string padding(std::size_t text_width, std::size_t cell_width) const;

  std::size_t min_width_, tab_width_, padding_;
  char pad_;
  std::string text_;
  std::vector<std::vector<std::string>> lines_;
  std::vector<std::size_t> widths_;
};

}  // namespace kiln::client
