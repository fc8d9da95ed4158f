// A progress display and the thread that feeds it.
// Displays are pure writers: they get updates and the time, and hand finished bytes to a sink.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "base/thread.hpp"
#include "client/progress/status.hpp"

namespace kiln::client {

/// Takes bytes for the terminal or file; one call is one write.
using text_sink = std::function<void(std::string_view)>;

class display {
 public:
  virtual ~display() = default;
  virtual void update(const solve_status& status, nanoseconds_t now) = 0;
  /// Called when time has passed without an update.
  virtual void refresh(nanoseconds_t now) = 0;
  /// Called once, last.
  virtual void finish(nanoseconds_t now) = 0;
  /// The longest time between two refreshes.
  virtual std::chrono::milliseconds refresh_interval() const { return std::chrono::milliseconds(150); }
};

/// Lets one event pass per period. Source: golang.org/x/time/rate with burst 1.
class rate_limiter {
 public:
  explicit rate_limiter(nanoseconds_t period) : period_(period) {}
  bool allow(nanoseconds_t now) {
    if (last_ && now - *last_ < period_) return false;
    last_ = now;
    return true;
  }

 private:
  nanoseconds_t period_;
  std::optional<nanoseconds_t> last_;
};

enum class progress_mode { automatic, tty, plain, rawjson, quiet };

/// "auto", "tty", "plain", "rawjson", "quiet"; empty means auto. With auto, BUILDKIT_PROGRESS decides if set.
/// invalid_argument "invalid progress mode <mode>". Source: progressui NewDisplay, progresswriter NewPrinter.
result<progress_mode> parse_progress_mode(std::string_view text);

/// Makes the display for a mode that writes to `fd` (kept open by the caller). `tty` needs a terminal there:
/// failed_precondition "failed to get console" otherwise.
result<std::unique_ptr<display>> make_display(progress_mode mode, int fd);

/// Runs a display on its own thread. push() never blocks on the display.
class display_runner {
 public:
  explicit display_runner(std::unique_ptr<display> d);
  ~display_runner();
  display_runner(const display_runner&) = delete;
  display_runner& operator=(const display_runner&) = delete;

  /// Thread-safe; ignored after finish().
  void push(solve_status status);
  /// Shows everything pushed, ends the display and the thread.
  void finish();

 private:
  void run();

  std::unique_ptr<display> display_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<solve_status> queue_;
  bool finished_ = false;
  thread thread_;
};

/// Local time as progress counts it.
nanoseconds_t wall_clock();

}  // namespace kiln::client
