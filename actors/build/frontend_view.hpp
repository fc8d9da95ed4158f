// A build as one of its frontends sees it: LLBBridge whose questions are the frontend's own (its scope in the
// build's requests, its inputs) and whose Return ends the frontend, not the build. Spawned by whoever runs a
// frontend image, gone with it.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "actors/build/build.hpp"

namespace kiln::actors {

/// What a frontend returned; filled by its inbound worker, read by the thread that runs it. Thread-safe.
class returned_result {
 public:
  /// False when there is one already.
  bool set(result<gw::Result> value) {
    std::lock_guard lock{mutex_};
    if (value_) return false;
    value_ = std::move(value);
    return true;
  }
  std::optional<result<gw::Result>> get() const {
    std::lock_guard lock{mutex_};
    return value_;
  }

 private:
  mutable std::mutex mutex_;
  std::optional<result<gw::Result>> value_;
};

struct frontend_view_options {
  build_impl build;
  std::int32_t scope = 0;
  std::map<std::string, pb::Definition> inputs;
  std::shared_ptr<returned_result> returned;
};

using frontend_view_impl = build_actor::extend<caf::replies_to<container_inputs>::with<container_inputs>>;

frontend_view_impl::behavior_type frontend_view(frontend_view_impl::stateful_pointer<actor_state> self,
                                                frontend_view_options options);

}  // namespace kiln::actors
