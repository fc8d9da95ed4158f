// Runs independent blocking jobs in a bounded number of threads of the caller's own. Knows nothing of CAF.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>

#include "messages/thread.hpp"

namespace kiln::frontends {

/// Calls job(0) … job(count - 1), at most `limit` at a time, and returns when all are done. The caller's
/// thread works too, so that it gets on even when no thread can be had.
template <class Job>
void run_parallel(std::size_t count, std::size_t limit, const Job& job) {
  std::atomic<std::size_t> next{0};
  auto work = [&] {
    for (auto i = next.fetch_add(1); i < count; i = next.fetch_add(1)) job(i);
  };
  run_with_helpers("frontend", std::max<std::size_t>(1, std::min(count, limit)) - 1, work);
}

}  // namespace kiln::frontends
