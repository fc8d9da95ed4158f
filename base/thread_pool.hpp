// Threads for blocking work: made when needed, up to a bound, and used again. What finds no thread waits its
// turn, up to a bound, or is refused. Thread-safe.
#pragma once

#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
#include <string>

namespace kiln {

class thread_pool {
 public:
  static constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

  /// Where an unlimited number may wait nothing is ever refused: one thread there is from the beginning
  /// (throws when it cannot be had), or, with no threads at all, work runs inside submit().
  thread_pool(std::string name, std::size_t threads_max, std::size_t waiting_max = unlimited);
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;
  /// Finishes what was submitted. The last owner may be one of the pool's own jobs.
  ~thread_pool();

  /// False, and nothing done, when all threads are busy (or no further one can be had) and no more work may
  /// wait.
  bool submit(std::function<void()> job);

 private:
  struct core;
  std::shared_ptr<core> core_;
};

}  // namespace kiln
