// Threads for blocking work that is asked for from outside: made when needed, up to a bound, and used again. What finds
// no thread waits, up to a bound, or is refused. Thread-safe.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "messages/thread.hpp"

namespace kiln {

class thread_pool {
 public:
  thread_pool(std::string name, std::size_t threads_max, std::size_t waiting_max)
      : name_(std::move(name)), threads_max_(threads_max), waiting_max_(waiting_max) {}
  /// Finishes what was submitted.
  ~thread_pool() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    threads_.clear();
  }
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  /// False, and nothing done, when all threads are busy (or no further one can be had) and no more work may wait.
  bool submit(std::function<void()> job) {
    std::lock_guard lock(mutex_);
    if (stopping_) return false;
    bool has_thread = jobs_.size() < idle_ || grow();
    if (!has_thread && (threads_.empty() || jobs_.size() - std::min(jobs_.size(), idle_) >= waiting_max_)) return false;
    jobs_.push_back(std::move(job));
    changed_.notify_one();
    return true;
  }

 private:
  bool grow() {  // with mutex_ held
    if (threads_.size() >= threads_max_) return false;
    auto one = thread::start(name_, [this] { run(); });
    if (!one.ok()) return false;
    threads_.push_back(*std::move(one));
    ++idle_;  // until it takes its job
    return true;
  }

  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      auto job = std::move(jobs_.front());
      jobs_.pop_front();
      --idle_;
      lock.unlock();
      job();
      job = nullptr;
      lock.lock();
      ++idle_;
    }
  }

  const std::string name_;
  const std::size_t threads_max_, waiting_max_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  std::size_t idle_ = 0;
  bool stopping_ = false;
  std::vector<thread> threads_;  // last: they use everything above
};

}  // namespace kiln
