// What the store's records cost, and getting it back. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "messages/prune_rule.hpp"
#include "store/records/ref.hpp"

namespace kiln::store {

class record_removal;
class record_table;
class state_root;

/// As `UsageRecord` of the control API.
struct usage_record {
  std::string id;
  bool is_mutable = false;
  bool in_use = false;
  std::int64_t size = 0;  // bytes in allocated blocks
  std::int64_t created_at_ns = 0;
  std::optional<std::int64_t> last_used_at_ns;
  std::int64_t usage_count = 0;
  std::string description;
  record_type type = record_type::regular;
  bool shared = false;
  std::vector<std::string> parents;
};

class store_space {
 public:
  store_space(record_table& records, record_removal& removal);

  /// How many records there are at rest. Cheap.
  std::size_t record_count() const;
  /// Bytes in allocated blocks of the record without its parents; measured once. Nothing of a lazy one.
  std::optional<std::int64_t> own_size(const ref& r);
  /// Records, and content that none names (unfinished downloads): that has its digest as id.
  result<std::vector<usage_record>> disk_usage(const std::vector<std::string>& filters);
  /// Removes a blob that no record names and nobody holds; otherwise leaves it.
  status drop_blob(const digest& d);
  /// Removes unused records by a rule, telling each; also drops cache keys whose results went. Works on a
  /// full disk. What could not be removed is an error, after all else is.
  status prune(const prune_rule& rule, const std::function<void(const usage_record&)>& removed);

 private:
  struct round;
  void remove_candidates(round& r, const std::vector<const usage_record*>& candidates);
  result<bool> remove_loose(const digest& d);
  bool drop_stale_loose(const usage_record& u);
  status drop_unnamed_documents();
  status drop_unreferenced_blobs();

  record_table& records_;
  record_removal& removal_;
  state_root& root_;
  std::mutex prune_mutex_;  // one prune at a time
};

}  // namespace kiln::store
