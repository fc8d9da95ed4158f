#include "store/materialize/materialize_lock.hpp"

namespace kiln::store {

result<materialize_lock> materialize_lock::acquire(const record_ptr& r, const job_context& job) {
  std::unique_lock lock(r->mutex_);
  if (!r->made_.wait(lock, job.stop, [&r] { return !r->being_made_; })) {
    if (auto wanted = job.check(); !wanted) return std::move(wanted).error();
  }
  r->being_made_ = true;
  return materialize_lock(r);
}

materialize_lock::~materialize_lock() {
  if (!record_) return;
  {
    std::lock_guard lock(record_->mutex_);
    record_->being_made_ = false;
  }
  record_->made_.notify_all();
}

}  // namespace kiln::store
