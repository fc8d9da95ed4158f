// BuildKit's limits on a step's log: what passes, where the clipped mark goes, and the tail kept for an
// error. Pure but for the clock handed in; one stream, one thread. Source: util/progress/logs/logs.go.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace kiln::workers {

struct log_limits {
  std::int64_t size = 0;   // bytes in all; -1 = unlimited
  std::int64_t speed = 0;  // bytes a second; -1 = unlimited
  /// configs' values, or those of BUILDKIT_STEP_LOG_MAX_SIZE and BUILDKIT_STEP_LOG_MAX_SPEED.
  static const log_limits& from_environment();
};

class log_limiter {
 public:
  using clock = std::chrono::steady_clock;
  log_limiter(log_limits limits, clock::time_point start) : limits_(limits), start_(start) {}

  /// What of `bytes` goes to the client now (possibly nothing), with the mark where clipping begins.
  std::string pass(std::string_view bytes, clock::time_point now);
  /// Once something was clipped: the last 256 KiB of everything since then, for a step that failed.
  std::string take_tail();

 private:
  log_limits limits_;
  clock::time_point start_;
  std::int64_t size_ = 0;
  bool clipping_ = false;
  bool keep_tail_ = false;
  std::string tail_;  // a ring once full
  std::size_t tail_at_ = 0;
};

}  // namespace kiln::workers
