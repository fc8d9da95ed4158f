// The plain display: append-only text, "#3 DONE 0.1s".
// Byte for byte BuildKit's format. Source: buildkit util/progress/progressui printer.go.
#pragma once

#include <string>

#include "client/progress/display.hpp"
#include "client/progress/trace.hpp"

namespace kiln::client {

struct plain_options {
  /// Names are cut to 72 bytes (PROGRESS_NO_TRUNC=0).
  bool cut_names = false;
  nanoseconds_t period = 100'000'000;  // between two prints, in ns (TTY_DISPLAY_RATE)
};

class plain_display : public display {
 public:
  plain_display(text_sink sink, plain_options options);

  void update(const solve_status& status, nanoseconds_t now) override;
  void refresh(nanoseconds_t now) override;
  void finish(nanoseconds_t now) override;

 private:
  struct printed_status {
    std::int64_t current = 0;
    nanoseconds_t timestamp = 0;
  };

  void print(nanoseconds_t now);
  void print_vertex(vertex_state& v, nanoseconds_t now);
  bool print_statuses(vertex_state& v);
  void print_log(vertex_state& v);
  void print_end(vertex_state& v, nanoseconds_t now);
  vertex_state* busiest(const std::vector<vertex_state*>& open, nanoseconds_t now) const;
  void flush();

  text_sink sink_;
  plain_options options_;
  trace trace_;
  rate_limiter limiter_;
  vertex_state* current_ = nullptr;
  std::map<std::string, printed_status> printed_;
  int numbered_ = 0;
  bool first_ = true;
  std::string out_;
};

/// " 1 warning found:" and a line for each; empty without warnings. Source: docker/buildx printWarnings.
std::string warning_summary(const std::vector<vertex_warning>& warnings);

}  // namespace kiln::client
