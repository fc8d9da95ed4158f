// The last lines of a step's output as a terminal would show them: carriage returns rewrite the line,
// backspaces erase, escape sequences vanish. Bounded in lines and in line length. Pure.
#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace kiln::client {

class log_tail {
 public:
  /// Keeps this many finished lines besides the one being written.
  void set_height(std::size_t lines) { height_ = lines; }
  void write(std::string_view bytes);
  /// The last `count` lines that are not blank, oldest first, the unfinished one included.
  std::vector<std::string> last(std::size_t count) const;

 private:
  enum class mode { text, escape, control_sequence, string_sequence, string_escape };
  static constexpr std::size_t line_bytes_max = 4096;

  void put(char c);
  void control(char final);

  std::size_t height_ = 6;
  std::deque<std::string> lines_;
  std::string line_;
  bool rewrite_ = false;  // a carriage return was seen: the next text starts the line anew
  mode mode_ = mode::text;
};

}  // namespace kiln::client
