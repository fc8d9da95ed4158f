#include "store/records/deferred_work.hpp"

#include <utility>

#include <spdlog/spdlog.h>

#include "configs/store.hpp"

namespace kiln::store {

status deferred_work::start(const char* thread_name, std::function<status()> work) {
  work_ = std::move(work);
  KILN_TRY(thread_, thread::start(thread_name, [this] { run(stop_.get_token()); }));
  return {};
}

void deferred_work::wake() {
  std::lock_guard lock(mutex_);
  is_wanted_ = true;
  woken_.notify_one();
}

void deferred_work::stop() {
  stop_.request_stop();
  wake();
  if (thread_.joinable()) thread_.join();
}

void deferred_work::run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    if (!woken_.wait(lock, stop, [this] { return is_wanted_; })) return;
    // Let the storm pass: several changes, one go.
    woken_.wait_for(lock, stop, limits::sync_delay, [] { return false; });
    if (stop.stop_requested()) return;
    is_wanted_ = false;
    lock.unlock();
    auto done = work_();
    if (!done) spdlog::error("store: {}", done.error().message);
    lock.lock();
    if (done.ok()) continue;
    is_wanted_ = true;  // again, when there may be room
    woken_.wait_for(lock, stop, limits::flush_retry, [] { return false; });
  }
}

}  // namespace kiln::store
