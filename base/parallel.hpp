// Independent blocking work, several pieces at once: in the caller's thread and as many helpers as are wanted
// and can be had, so that it gets on even when no thread can be started.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <mutex>
#include <string>

#include "base/result.hpp"
#include "base/thread.hpp"

namespace kiln {

/// Calls job(0) … job(count - 1), at most `limit` at a time, and returns when all are done. `name`: of the
/// helpers.
template <class Job>
void parallel_for(const std::string& name, std::size_t count, std::size_t limit, const Job& job) {
  std::atomic<std::size_t> next{0};
  auto work = [&] {
    for (std::size_t i; (i = next.fetch_add(1)) < count;) job(i);
  };
  run_with_helpers(name, std::max<std::size_t>(1, std::min(count, limit)) - 1, work);
}

/// The same for a job that returns a status: after a failure none is begun any more; the first failure is
/// what comes back.
template <class Job>
status parallel_try(const std::string& name, std::size_t count, std::size_t limit, const Job& job) {
  std::mutex mutex;
  status outcome;
  std::atomic<bool> failed{false};
  parallel_for(name, count, limit, [&](std::size_t i) {
    if (failed) return;
    status done = job(i);
    if (done.ok()) return;
    std::lock_guard lock(mutex);
    if (!failed.exchange(true)) outcome = std::move(done);
  });
  return outcome;
}

}  // namespace kiln
