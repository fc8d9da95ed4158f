// How much each of several has under way: one that asks for more and more takes nothing from the others.
// Thread-safe.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>

namespace kiln {

template <class Key>
class quota {
 public:
  explicit quota(std::size_t each_max) : state_(std::make_shared<state>()), each_max_(each_max) {}

  std::size_t each_max() const { return each_max_; }
  /// Held while something of `who` is under way; null when that has as much as it may.
  std::shared_ptr<void> enter(const Key& who) {
    std::lock_guard lock(state_->mutex);
    auto& count = state_->under_way[who];
    if (count >= each_max_) return nullptr;
    ++count;
    // Not of nothing: null says no.
    return std::shared_ptr<void>(state_.get(), [state = state_, who](void*) {
      std::lock_guard lock(state->mutex);
      auto at = state->under_way.find(who);
      if (--at->second == 0) state->under_way.erase(at);
    });
  }

 private:
  struct state {
    std::mutex mutex;
    std::map<Key, std::size_t> under_way;
  };
  std::shared_ptr<state> state_;  // permits may outlive this
  std::size_t each_max_;
};

}  // namespace kiln
