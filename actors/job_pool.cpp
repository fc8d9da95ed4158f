#include "actors/job_pool.hpp"

#include <condition_variable>
#include <deque>
#include <thread>
#include <vector>

namespace kiln::actors {

/// Shared with the threads: the last owner of a pool may be one of its own jobs.
struct job_pool::core {
  unsigned threads_max = 0;
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<std::function<void()>> queue;
  std::vector<std::thread> threads;
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
}

job_pool::~job_pool() {
  std::vector<std::thread> threads;
  {
    std::lock_guard lock{core_->mutex};
    core_->stopping = true;
    threads.swap(core_->threads);
  }
  core_->wake.notify_all();
  for (auto& t : threads) {
    if (t.get_id() == std::this_thread::get_id()) {
      t.detach();
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
    if (core_->idle < core_->queue.size() && core_->threads.size() < core_->threads_max)
      core_->threads.emplace_back([core = core_] { core->serve(); });
  }
  core_->wake.notify_one();
}

}  // namespace kiln::actors
