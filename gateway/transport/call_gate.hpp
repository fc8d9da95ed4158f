// Counts the builds under way and refuses new ones once the daemon drains. Knows nothing of gRPC.
// Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "base/result.hpp"

namespace kiln::gateway {

class call_gate {
 public:
  /// Held while a build runs; null once the gate is closed. The gate must outlive it.
  std::shared_ptr<void> enter() {
    std::lock_guard lock(mutex_);
    if (closed_) return nullptr;
    ++inside_;
    return std::shared_ptr<void>(this, [this](void*) {
      std::lock_guard lock(mutex_);
      if (--inside_ == 0) empty_.notify_all();
    });
  }
  /// Refuses newcomers and waits for those inside. False when some are still there after `grace`.
  bool close(std::chrono::milliseconds grace) {
    std::unique_lock lock(mutex_);
    closed_ = true;
    return empty_.wait_for(lock, grace, [this] { return inside_ == 0; });
  }
  std::size_t inside() const {
    std::lock_guard lock(mutex_);
    return inside_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable empty_;
  std::size_t inside_ = 0;
  bool closed_ = false;
};

}  // namespace kiln::gateway
