// Who relies on a thing, by key: whoever holds it finds it again, for nothing is taken away while it is held,
// and nobody comes to hold it while it is taken away. Thread-safe.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace kiln::store {

class holds {
  struct core {
    std::mutex mutex;
    std::condition_variable settled;
    std::unordered_map<std::string, std::size_t> held;  // how often
    std::unordered_set<std::string> going;
  };
  struct holder {
    std::shared_ptr<core> of;
    std::string key;
    holder(std::shared_ptr<core> c, std::string k) : of(std::move(c)), key(std::move(k)) {}
    holder(const holder&) = delete;
    holder& operator=(const holder&) = delete;
    ~holder() {
      std::lock_guard lock(of->mutex);
      auto found = of->held.find(key);
      if (--found->second == 0) of->held.erase(found);
    }
  };

 public:
  /// Keeps the key's thing for as long as a copy lives; that may be longer than the holds.
  using hold = std::shared_ptr<const void>;

  /// The right to take it away, given back when it goes.
  class removal {
   public:
    removal(removal&&) noexcept = default;
    removal& operator=(removal&&) = delete;
    ~removal() {
      if (!of_) return;
      {
        std::lock_guard lock(of_->mutex);
        of_->going.erase(key_);
      }
      of_->settled.notify_all();
    }

   private:
    friend class holds;
    removal(std::shared_ptr<core> c, std::string key) : of_(std::move(c)), key_(std::move(key)) {}
    std::shared_ptr<core> of_;
    std::string key_;
  };

  /// Says nothing of whether it is there: look after taking. Waits while it is being taken away.
  hold take(const std::string& key) {
    std::unique_lock lock(core_->mutex);
    core_->settled.wait(lock, [&] { return !core_->going.contains(key); });
    ++core_->held[key];
    lock.unlock();
    return std::make_shared<const holder>(core_, key);
  }

  /// Nothing while somebody holds it, or takes it away.
  std::optional<removal> begin_removal(const std::string& key) {
    std::lock_guard lock(core_->mutex);
    if (core_->held.contains(key) || !core_->going.insert(key).second) return std::nullopt;
    return removal(core_, key);
  }

  bool is_held(const std::string& key) const {
    std::lock_guard lock(core_->mutex);
    return core_->held.contains(key);
  }

 private:
  std::shared_ptr<core> core_ = std::make_shared<core>();
};

}  // namespace kiln::store
