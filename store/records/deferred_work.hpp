// Work that is done soon after somebody asked for it, on a thread of its own: several wishes, one go. What
// fails is tried again.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <stop_token>

#include "base/result.hpp"
#include "base/thread.hpp"

namespace kiln::store {

class deferred_work {
 public:
  ~deferred_work() { stop(); }
  /// From now on wishes are followed, each after limits::sync_delay.
  status start(const char* thread_name, std::function<status()> work);
  void wake();
  /// Ends the thread, with what it is doing; it does nothing more.
  void stop();

 private:
  void run(const std::stop_token& stop);

  std::function<status()> work_;
  std::mutex mutex_;
  std::condition_variable_any woken_;
  bool is_wanted_ = false;  // by mutex_
  std::stop_source stop_;
  thread thread_;
};

}  // namespace kiln::store
