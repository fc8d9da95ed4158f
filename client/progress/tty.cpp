#include "client/progress/tty.hpp"

#include "client/progress/plain.hpp"

namespace kiln::client {

tty_display::tty_display(text_sink sink, std::function<std::pair<std::size_t, std::size_t>()> size,
                         frame_options options, nanoseconds_t period)
    : sink_(std::move(sink)),
      size_(std::move(size)),
      options_(std::move(options)),
      trace_(trace_options{.keep_logs = true, .tail_lines = options_.log_lines}),
      limiter_(period) {}

void tty_display::update(const solve_status& status, nanoseconds_t now) {
  trace_.update(status, now);
  if (limiter_.allow(now)) draw(now, false);
}

void tty_display::refresh(nanoseconds_t now) { draw(now, false); }

void tty_display::finish(nanoseconds_t now) {
  draw(now, true);
  auto rest = error_logs(trace_) + warning_summary(trace_.warnings());
  if (!rest.empty()) sink_(rest);
}

void tty_display::draw(nanoseconds_t now, bool final) {
  auto [width, height] = size_();
  sink_(painter_.paint(render_frame(trace_, now, width, height, options_, final), width));
}

}  // namespace kiln::client
