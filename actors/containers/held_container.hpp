// One container of a gateway client and the number of its processes, shared by the actor and pool threads.
// Thread-safe.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <stop_token>

#include "base/result.hpp"
#include "workers/client_container.hpp"

namespace kiln::actors {

class held_container {
 public:
  std::stop_token released() const { return stop_.get_token(); }
  std::shared_ptr<workers::client_container> get() {
    std::lock_guard lock(mutex_);
    return container_;
  }
  void set(std::shared_ptr<workers::client_container> c) {
    std::lock_guard lock(mutex_);
    container_ = std::move(c);
  }
  void enter() {
    std::lock_guard lock(mutex_);
    ++inside_;
  }
  void leave(status how) {
    std::lock_guard lock(mutex_);
    if (failure_.ok()) failure_ = std::move(how);
    --inside_;
    empty_.notify_all();
  }
  void kill() { stop_.request_stop(); }
  /// Kills what runs and waits for its end, then unmounts. Blocking, so nothing for the pool of short work.
  /// Tells what the first process failed with that did, killed ones too. Source: frontend/gateway/container,
  /// Release.
  status release() {
    kill();
    std::shared_ptr<workers::client_container> last;
    std::unique_lock lock(mutex_);
    empty_.wait(lock, [&] { return inside_ == 0; });
    last.swap(container_);
    return failure_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable empty_;
  std::stop_source stop_;
  std::shared_ptr<workers::client_container> container_;
  int inside_ = 0;
  status failure_;
};

}  // namespace kiln::actors
