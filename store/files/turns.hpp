// One at a time per key: whoever wants what another is making waits for it. Thread-safe.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <utility>

#include "base/result.hpp"

namespace kiln::store {

class turns {
  struct core {
    std::mutex mutex;
    std::condition_variable_any freed;
    std::set<std::string> taken;
  };

 public:
  /// The right to a key, given back when it goes. May outlive the turns it is of.
  class turn {
   public:
    turn(turn&&) noexcept = default;
    turn& operator=(turn&& other) noexcept {
      std::swap(core_, other.core_);
      std::swap(key_, other.key_);
      return *this;
    }
    ~turn() {
      if (!core_) return;
      {
        std::lock_guard lock(core_->mutex);
        core_->taken.erase(key_);
      }
      core_->freed.notify_all();
    }

   private:
    friend class turns;
    turn(std::shared_ptr<core> c, std::string key) : core_(std::move(c)), key_(std::move(key)) {}
    std::shared_ptr<core> core_;
    std::string key_;
  };

  /// Waits until nobody has the key; cancelled when `stop` asks.
  result<turn> wait(std::string key, const std::stop_token& stop) {
    std::unique_lock lock(core_->mutex);
    if (!core_->freed.wait(lock, stop, [&] { return !core_->taken.contains(key); }))
      return make_error(errc::cancelled, "context canceled");
    core_->taken.insert(key);
    return turn(core_, std::move(key));
  }

  /// The key at once, or nothing while another has it.
  std::optional<turn> take(const std::string& key) {
    std::lock_guard lock(core_->mutex);
    if (!core_->taken.insert(key).second) return std::nullopt;
    return turn(core_, key);
  }

  bool is_taken(const std::string& key) const {
    std::lock_guard lock(core_->mutex);
    return core_->taken.contains(key);
  }

 private:
  std::shared_ptr<core> core_ = std::make_shared<core>();
};

}  // namespace kiln::store
