// Small values in the database: those kept with a record, which go with it, and the daemon's own in buckets,
// with the same durability. Thread-safe.
//
// A bucket whose keys come from builds grows for ever unless something forgets: `remembered_values` does.
#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace kiln::store {

class metadata_db;

class value_store {
 public:
  explicit value_store(metadata_db& database) : database_(database) {}

  /// For op handlers: content hashes, etags, …
  std::optional<std::string> of_record(std::string_view record_id, std::string_view key) const;
  status set_of_record(std::string_view record_id, std::string_view key, std::string_view value);
  /// The same for a record that is only queued as yet: queued behind it, nobody waits.
  void post_of_record(std::string_view record_id, std::string_view key, std::string_view value);

  std::optional<std::string> get(std::string_view bucket, std::string_view key) const;
  status set(std::string_view bucket, std::string_view key, std::string_view value);
  status erase(std::string_view bucket, std::string_view key);
  /// Erases those that still have the value given, by key.
  status erase_unchanged(std::string_view bucket,
                         const std::vector<std::pair<std::string, std::string>>& values);
  /// All of a bucket, by key.
  std::vector<std::pair<std::string, std::string>> all(std::string_view bucket) const;

 private:
  metadata_db& database_;
};

/// A bucket of what may be forgotten, since it only saves work: what it says of things that are gone goes,
/// and there are never more than half as many again as `count_max`. It is looked through before the first
/// value that is set and after every so many.
class remembered_values {
 public:
  /// `is_good`: whether what the value speaks of is there still; for any thread, and quick.
  using good = std::function<bool(std::string_view value)>;
  remembered_values(value_store& values, std::string bucket, std::size_t count_max, good is_good)
      : values_(values), bucket_(std::move(bucket)), count_max_(count_max), is_good_(std::move(is_good)) {}

  std::optional<std::string> get(std::string_view key) const { return values_.get(bucket_, key); }
  /// Blocking (a commit); nothing when it is the value already.
  status set(std::string_view key, std::string_view value);

 private:
  status forget_some();

  value_store& values_;
  std::string bucket_;
  std::size_t count_max_;
  good is_good_;
  std::mutex mutex_;  // guards the rest
  std::size_t set_until_look_ = 0;
};

}  // namespace kiln::store
