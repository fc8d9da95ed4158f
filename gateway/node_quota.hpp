// What each other node has under way here: one that asks for more and more takes nothing from the others. Knows nothing
// of gRPC. Thread-safe.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/result.hpp"

namespace kiln::gateway {

class node_quota {
 public:
  explicit node_quota(std::size_t each_max) : state_(std::make_shared<state>()), each_max_(each_max) {}

  /// Held while it is under way; resource_exhausted when the node has enough.
  result<std::shared_ptr<void>> enter(const std::string& node) {
    std::lock_guard lock(state_->mutex);
    auto& count = state_->under_way[node];
    if (count >= each_max_)
      return make_error(errc::resource_exhausted, "too many calls at a time: " + (node.empty() ? "a node without a name" : "node " + node) +
                                                      " has " + std::to_string(each_max_) + " under way here");
    ++count;
    return std::shared_ptr<void>(nullptr, [state = state_, node](void*) {
      std::lock_guard lock(state->mutex);
      auto at = state->under_way.find(node);
      if (--at->second == 0) state->under_way.erase(at);
    });
  }

 private:
  struct state {
    std::mutex mutex;
    std::map<std::string, std::size_t> under_way;
  };
  std::shared_ptr<state> state_;  // permits may outlive this
  const std::size_t each_max_;
};

}  // namespace kiln::gateway
