// The live display on a terminal. Reads the terminal's size through a callback, so it can be driven without
// one.
#pragma once

#include <functional>
#include <utility>

#include "client/progress/display.hpp"
#include "client/progress/frame.hpp"
#include "client/progress/trace.hpp"

namespace kiln::client {

class tty_display : public display {
 public:
  /// `size` gives columns and rows.
  tty_display(text_sink sink, std::function<std::pair<std::size_t, std::size_t>()> size,
              frame_options options, nanoseconds_t period);

  void update(const solve_status& status, nanoseconds_t now) override;
  void refresh(nanoseconds_t now) override;
  void finish(nanoseconds_t now) override;
  std::chrono::milliseconds refresh_interval() const override { return std::chrono::milliseconds(100); }

 private:
  void draw(nanoseconds_t now, bool final);

  text_sink sink_;
  std::function<std::pair<std::size_t, std::size_t>()> size_;
  frame_options options_;
  trace trace_;
  rate_limiter limiter_;
  frame_painter painter_;
};

}  // namespace kiln::client
