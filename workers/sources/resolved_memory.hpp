// Remembers for a short time what a vertex's source resolved to, so that its keys and its run agree although
// a tag may move between them. Thread-safe.
#pragma once

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "messages/job.hpp"

namespace kiln::workers {

template <class T>
class resolved_memory {
 public:
  explicit resolved_memory(std::chrono::seconds life = std::chrono::minutes(5), std::size_t limit = 1'024)
      : life_(life), limit_(limit) {}

  static std::string key_of(const std::string& vertex, const std::string& what, const job_context& job) {
    std::string key = vertex + "\n" + what;
    auto ids = job.sessions.ids;
    std::sort(ids.begin(), ids.end());
    for (const auto& id : ids) key += "\n" + id;
    return key;
  }
  std::optional<T> find(const std::string& key) {
    std::lock_guard lock(mutex_);
    auto it = entries_.find(key);
    if (it == entries_.end() || clock::now() > it->second.expires) return std::nullopt;
    it->second.expires = clock::now() + life_;
    return it->second.value;
  }
  void keep(const std::string& key, T value) {
    std::lock_guard lock(mutex_);
    auto now = clock::now();
    if (entries_.size() >= limit_)
      std::erase_if(entries_, [&](const auto& e) { return now > e.second.expires; });
    if (entries_.size() >= limit_) entries_.clear();
    entries_[key] = {std::move(value), now + life_};
  }

 private:
  using clock = std::chrono::steady_clock;
  struct entry {
    T value;
    clock::time_point expires;
  };
  std::chrono::seconds life_;
  std::size_t limit_;
  std::mutex mutex_;
  std::map<std::string, entry> entries_;
};

}  // namespace kiln::workers
