// The persistent cache-key graph: which key, extended by which op, leads to which key, and the results kept
// under it. Same logical relations as BuildKit's cache.db, so that remote caches map onto it one to one.
// Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "messages/cache_records.hpp"

namespace kiln::store {

class cache_keys {
 public:
  virtual ~cache_keys() = default;
  virtual bool has(std::string_view key_id) const = 0;
  /// Keys reached from `parent` by exactly this link.
  virtual std::vector<std::string> children(std::string_view parent, const cache_link& link) const = 0;
  /// All links out of a key, with the keys they lead to; and into it, with where they come from.
  virtual void for_each_link(
      std::string_view parent,
      const std::function<void(const cache_link&, std::string_view child)>& f) const = 0;
  virtual void for_each_backlink(
      std::string_view child,
      const std::function<void(const cache_link&, std::string_view parent)>& f) const = 0;
  /// Newest first.
  virtual std::vector<cached_result> results(std::string_view key_id) const = 0;
  virtual std::vector<std::string> keys_of_result(std::string_view result_id) const = 0;

  /// One durable transaction for everything one finished vertex adds.
  virtual status add(const cache_records& entries) = 0;
  /// Forgets a result everywhere, and keys that then lead to nothing.
  virtual status release(std::string_view result_id) = 0;
  /// Every key that has no incoming link (for walks and the debug endpoints).
  virtual void for_each_key(const std::function<void(std::string_view key_id)>& f) const = 0;
};

}  // namespace kiln::store
