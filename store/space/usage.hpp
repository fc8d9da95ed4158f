// What there is in the store, with sizes: the ledger that `du` shows and prune works through. Private to the
// store. Thread-safe.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.hpp"
#include "store/records/record_table.hpp"
#include "store/space/space.hpp"

namespace kiln::store {

class usage_ledger {
 public:
  explicit usage_ledger(record_table& records) : records_(records), root_(records.root()) {}

  /// All records with their sizes, which are remembered, and the content that no record names. What the disk
  /// does not let us write down is no reason not to tell.
  result<std::vector<usage_record>> all();
  std::optional<std::int64_t> own_size(const record_ptr& r);

 private:
  using live_records = std::unordered_map<std::string, record_ptr>;
  result<std::vector<stored::Record>> at_rest();
  static void add_unsaved(const live_records& live, std::vector<stored::Record>& records);
  void remember(const std::vector<stored::Record>& measured, const live_records& live);
  result<std::vector<usage_record>> loose(const live_records& live);
  std::int64_t measure_snapshot(const stored::Record& r);
  std::int64_t measure_blobs(const stored::Record& r);

  record_table& records_;
  state_root& root_;
};

/// The digest of content that no record names: its id.
std::optional<digest> loose_id(const std::string& id);

}  // namespace kiln::store
