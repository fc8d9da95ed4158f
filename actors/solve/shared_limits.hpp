// The limits of a step that several builds share: the laxest of theirs, until it runs. The directory of
// vertices adds, the vertex reads. Thread-safe.
#pragma once

#include <mutex>
#include <optional>

#include "ops.pb.h"
#include "solver/linux_resources.hpp"

namespace kiln::actors {

class shared_limits {
 public:
  /// Of one more build; one that names none changes nothing.
  void add(const pb::OpMetadata& metadata) {
    if (!metadata.has_linux_resources()) return;
    std::lock_guard lock(mutex_);
    laxest_ = laxest_ ? solver::laxest(*laxest_, metadata.linux_resources()) : metadata.linux_resources();
  }
  std::optional<pb::LinuxResources> laxest() const {
    std::lock_guard lock(mutex_);
    return laxest_;
  }

 private:
  mutable std::mutex mutex_;
  std::optional<pb::LinuxResources> laxest_;
};

}  // namespace kiln::actors
