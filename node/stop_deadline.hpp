// The end of a daemon that is told to stop, whatever hangs: once the time is over it says what still runs and
// ends the process. What is on disk is consistent at any moment (docs/architecture.md), so that is no worse
// than a kill.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "base/thread.hpp"

namespace kiln::node {

class stop_deadline {
 public:
  stop_deadline() = default;
  /// In time.
  ~stop_deadline();
  stop_deadline(const stop_deadline&) = delete;
  stop_deadline& operator=(const stop_deadline&) = delete;

  /// From now on; the first call counts. When the time is over, `what_runs` adds its lines to the log (if it
  /// can say so at once), and the process ends with `exit_code`.
  void begin(std::chrono::nanoseconds time, int exit_code, std::function<std::string()> what_runs);

 private:
  std::mutex mutex_;
  std::condition_variable over_;
  bool in_time_ = false;
  thread watch_;
};

/// The threads of this process: "name (state, what the kernel waits for)", equal ones counted.
std::vector<std::string> running_threads();

}  // namespace kiln::node
