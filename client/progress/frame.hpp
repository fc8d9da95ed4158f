// What the tty display shows at one instant, as lines; and how one frame replaces the other on the screen.
// Pure: trace, time and size in, text out.
#pragma once

#include <string>
#include <vector>

#include "client/progress/colors.hpp"
#include "client/progress/trace.hpp"

namespace kiln::client {

struct frame_options {
  color_scheme colors;
  bool unicode = true;           // symbols beyond ASCII
  std::size_t log_lines = 6;     // of a running step
  std::size_t status_lines = 5;  // of a running step
  std::string phase = "Building";
};

struct frame_line {
  std::string text;       // with colours
  std::size_t width = 0;  // columns
};

/// The frame for a terminal of that size. While the build runs it never has more than height-1 lines:
/// finished steps fold into one line first, then logs shrink. The last frame (`final`) shows every step.
std::vector<frame_line> render_frame(const trace& t, nanoseconds_t now, std::size_t width, std::size_t height,
                                     const frame_options& options, bool final);

/// Remembers the frame on the screen and produces the bytes that replace it, to be written at once.
class frame_painter {
 public:
  /// `width` is the terminal's now; lines of the last frame that have wrapped since are accounted for.
  std::string paint(const std::vector<frame_line>& lines, std::size_t width);

 private:
  std::vector<std::size_t> last_widths_;
  std::size_t last_columns_ = 0;  // of the terminal
};

}  // namespace kiln::client
