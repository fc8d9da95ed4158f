// Ctrl-C and SIGTERM: the first asks the command to stop, the second ends the process.
// Constructed in main before any other thread starts, so that every thread has the signals blocked.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <stop_token>

#include "base/thread.hpp"

namespace kiln::client {

class interrupt_handler {
 public:
  interrupt_handler();
  ~interrupt_handler();
  interrupt_handler(const interrupt_handler&) = delete;
  interrupt_handler& operator=(const interrupt_handler&) = delete;

  std::stop_token token() const { return stop_.get_token(); }
  /// Called on the second signal just before the process ends, e.g. to kill a child.
  void on_kill(std::function<void()> action);

 private:
  void run();

  std::stop_source stop_;
  std::mutex mutex_;
  std::function<void()> on_kill_;
  std::atomic<bool> ending_ = false;
  thread thread_;
};

}  // namespace kiln::client
