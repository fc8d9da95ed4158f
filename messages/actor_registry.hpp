// Where restarted actors are found again: name → present handle. Supervisors write it, everybody reads it.
// Thread-safe; a look-up is a map access, so callers look up at each use instead of keeping handles.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include <caf/actor.hpp>
#include <caf/actor_cast.hpp>

namespace kiln {

class actor_registry {
 public:
  /// The handle registered under `name`, or a null handle while that child is down.
  template <class Handle = caf::actor>
  Handle get(std::string_view name) const {
    std::lock_guard lock{mutex_};
    auto found = handles_.find(name);
    return found == handles_.end() ? Handle{} : caf::actor_cast<Handle>(found->second);
  }

  void put(std::string name, caf::actor handle) {
    std::lock_guard lock{mutex_};
    fates_.erase(name);
    handles_.insert_or_assign(std::move(name), std::move(handle));
  }

  /// `fate`: why it is down; empty when it was stopped on purpose.
  void erase(std::string_view name, std::string fate = {}) {
    std::lock_guard lock{mutex_};
    if (auto found = handles_.find(name); found != handles_.end()) handles_.erase(found);
    if (!fate.empty()) fates_.insert_or_assign(std::string(name), std::move(fate));
  }

  /// What the child under `name` died of, while it is down for that; else empty.
  std::string fate(std::string_view name) const {
    std::lock_guard lock{mutex_};
    auto found = fates_.find(name);
    return found == fates_.end() ? std::string() : found->second;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, caf::actor, std::less<>> handles_;
  std::map<std::string, std::string, std::less<>> fates_;
};

}  // namespace kiln
