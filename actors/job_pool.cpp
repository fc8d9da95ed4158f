#include "actors/job_pool.hpp"

namespace kiln::actors {

job_pool& layered_pool::at(std::size_t depth) {
  std::lock_guard lock{mutex_};
  while (pools_.size() <= depth) pools_.emplace_back(threads_max_);
  return pools_[depth];
}

}  // namespace kiln::actors
