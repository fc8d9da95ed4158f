// The imported caches that running builds use, by id. Thread-safe.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "exporters/cache/imported_cache.hpp"

namespace kiln::exporters {

class import_table {
 public:
  void put(const std::string& id, std::shared_ptr<const imported_cache> cache) {
    std::lock_guard lock(mutex_);
    caches_[id] = std::move(cache);
  }
  /// Null when there is none of that id (any more).
  std::shared_ptr<const imported_cache> find(const std::string& id) const {
    std::lock_guard lock(mutex_);
    auto found = caches_.find(id);
    return found == caches_.end() ? nullptr : found->second;
  }
  void erase(const std::string& id) {
    std::lock_guard lock(mutex_);
    caches_.erase(id);
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const imported_cache>> caches_;
};

}  // namespace kiln::exporters
