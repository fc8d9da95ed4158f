// The right to make a record's snapshot, or a form of it; others wait for it. Private to the store.
#pragma once

#include <utility>

#include "base/result.hpp"
#include "messages/job.hpp"
#include "store/records/record.hpp"

namespace kiln::store {

class materialize_lock {
 public:
  /// Waits while another has it; the job's verdict when that is cancelled meanwhile.
  static result<materialize_lock> acquire(const record_ptr& r, const job_context& job);
  materialize_lock(materialize_lock&& other) noexcept = default;
  materialize_lock& operator=(materialize_lock&& other) noexcept {
    std::swap(record_, other.record_);
    return *this;
  }
  ~materialize_lock();

 private:
  explicit materialize_lock(record_ptr r) : record_(std::move(r)) {}
  record_ptr record_;
};

}  // namespace kiln::store
