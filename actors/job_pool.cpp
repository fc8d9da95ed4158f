#include "actors/job_pool.hpp"

#include <condition_variable>
#include <vector>

#include "messages/thread.hpp"

namespace kiln::actors {

/// Shared with the threads: the last owner of a pool may be one of its own jobs.
struct job_pool::core {
  unsigned threads_max = 0;
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<std::function<void()>> queue;
  std::vector<thread> threads;
  std::size_t idle = 0;
  bool stopping = false;

  void serve() {
    std::unique_lock lock{mutex};
    for (;;) {
      ++idle;
      wake.wait(lock, [this] { return stopping || !queue.empty(); });
      --idle;
      if (queue.empty()) return;
      auto work = std::move(queue.front());
      queue.pop_front();
      lock.unlock();
      work();
      work = nullptr;
      lock.lock();
    }
  }
};

job_pool::job_pool(unsigned threads_max) : core_(std::make_shared<core>()) {
  core_->threads_max = threads_max;
  // One there always is: work waits when no further one can be had, but not for ever.
  if (threads_max > 0) core_->threads.push_back(thread::must_start("job", [core = core_] { core->serve(); }));
}

job_pool::~job_pool() {
  std::vector<thread> threads;
  {
    std::lock_guard lock{core_->mutex};
    core_->stopping = true;
    threads.swap(core_->threads);
  }
  core_->wake.notify_all();
  for (auto& t : threads) {
    if (t.is_current()) {
      t.let_go();
    } else {
      t.join();
    }
  }
}

void job_pool::submit(std::function<void()> work) {
  if (core_->threads_max == 0) return work();
  {
    std::lock_guard lock{core_->mutex};
    core_->queue.push_back(std::move(work));
    if (core_->idle < core_->queue.size() && core_->threads.size() < core_->threads_max) {
      auto more = thread::start("job", [core = core_] { core->serve(); });
      if (more.ok()) core_->threads.push_back(*std::move(more));
    }
  }
  core_->wake.notify_one();
}

job_pool& layered_pool::at(std::size_t depth) {
  std::lock_guard lock{mutex_};
  while (pools_.size() <= depth) pools_.emplace_back(threads_max_);
  return pools_[depth];
}

}  // namespace kiln::actors
