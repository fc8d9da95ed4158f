// Runs independent blocking jobs in a bounded number of threads of the caller's own. Knows nothing of CAF.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <system_error>
#include <thread>
#include <vector>

namespace kiln::frontends {

/// Calls job(0) … job(count - 1), at most `limit` at a time, and returns when all are done. The caller's
/// thread works too, so that it gets on even when no thread can be had.
template <class Job>
void run_parallel(std::size_t count, std::size_t limit, const Job& job) {
  std::atomic<std::size_t> next{0};
  auto work = [&] {
    for (auto i = next.fetch_add(1); i < count; i = next.fetch_add(1)) job(i);
  };
  std::vector<std::jthread> threads;
  for (std::size_t i = 1; i < std::min(count, limit); ++i) {
    try {
      threads.emplace_back(work);
    } catch (const std::system_error&) {
      break;
    }
  }
  work();
}

}  // namespace kiln::frontends
