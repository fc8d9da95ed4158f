#include "base/thread_pool.hpp"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <vector>

#include "base/thread.hpp"

namespace kiln {

/// Shared with the threads: they may outlive the pool, when one of them is the last to own it.
struct thread_pool::core {
  std::string name;
  std::size_t threads_max = 0, waiting_max = 0;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> jobs;
  std::vector<thread> threads;
  std::size_t idle = 0;
  bool stopping = false;

  bool refuses_nothing() const { return waiting_max == unlimited; }

  static bool grow(const std::shared_ptr<core>& c) {  // with the mutex held
    if (c->threads.size() >= c->threads_max) return false;
    auto one = thread::start(c->name, [c] { c->run(); });
    if (!one.ok()) return false;
    c->threads.push_back(*std::move(one));
    ++c->idle;  // until it takes its job
    return true;
  }

  /// Whether one more job may come; starts a thread for it if none is free. With the mutex held.
  static bool has_room(const std::shared_ptr<core>& c) {
    if (c->stopping) return c->refuses_nothing();  // those that end take it along
    if (c->jobs.size() < c->idle || grow(c) || c->refuses_nothing()) return true;
    return !c->threads.empty() && c->jobs.size() - std::min(c->jobs.size(), c->idle) < c->waiting_max;
  }

  void run() {
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [this] { return stopping || !jobs.empty(); });
      if (jobs.empty()) return;
      auto job = std::move(jobs.front());
      jobs.pop_front();
      --idle;
      lock.unlock();
      job();
      job = nullptr;
      lock.lock();
      ++idle;
    }
  }
};

thread_pool::thread_pool(std::string name, std::size_t threads_max, std::size_t waiting_max)
    : core_(std::make_shared<core>()) {
  core_->name = std::move(name);
  core_->threads_max = threads_max;
  core_->waiting_max = waiting_max;
  if (threads_max == 0 || !core_->refuses_nothing()) return;
  core_->threads.push_back(thread::must_start(core_->name, [c = core_] { c->run(); }));
  core_->idle = 1;
}

thread_pool::~thread_pool() {
  std::vector<thread> threads;
  {
    std::lock_guard lock(core_->mutex);
    core_->stopping = true;
    threads.swap(core_->threads);
  }
  core_->changed.notify_all();
  for (auto& t : threads)
    if (t.is_current()) t.let_go();
    else t.join();
}

bool thread_pool::submit(std::function<void()> job) {
  auto& c = *core_;
  if (c.threads_max == 0 && c.refuses_nothing()) {
    job();
    return true;
  }
  {
    std::lock_guard lock(c.mutex);
    if (!core::has_room(core_)) return false;
    c.jobs.push_back(std::move(job));
  }
  c.changed.notify_one();
  return true;
}

}  // namespace kiln
