// Threads for calls that may block for long and must not wait for each other: as many as there are calls, up
// to a bound; idle ones are used again.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace kiln::gateway {

class elastic_pool {
 public:
  explicit elastic_pool(std::size_t threads_max) : threads_max_(threads_max) {}
  /// Finishes what was submitted.
  ~elastic_pool() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (auto& t : threads_) t.join();
  }
  elastic_pool(const elastic_pool&) = delete;
  elastic_pool& operator=(const elastic_pool&) = delete;

  /// False, and nothing done, when all threads are busy.
  bool submit(std::function<void()> job) {
    std::lock_guard lock(mutex_);
    if (jobs_.size() < idle_) {
      jobs_.push_back(std::move(job));
      changed_.notify_one();
      return true;
    }
    if (stopping_ || threads_.size() >= threads_max_) return false;
    jobs_.push_back(std::move(job));
    ++idle_;  // the new one, until it takes its job
    threads_.emplace_back([this] { run(); });
    return true;
  }

 private:
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

  const std::size_t threads_max_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  std::vector<std::thread> threads_;
  std::size_t idle_ = 0;
  bool stopping_ = false;
};

}  // namespace kiln::gateway
