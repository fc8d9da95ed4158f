// How records and blobs leave the store: first the database, durably, then the disk. Private to the store.
// Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "store/records/record_table.hpp"

namespace kiln::store {

class record_removal {
 public:
  explicit record_removal(record_table& records) : records_(records), root_(records.root()) {}

  /// Removes records and what goes with them. All that stands on them goes too, unless `alone`: then those
  /// that something stands on stay. `gone` is told of those that went, some at a time.
  status remove(const std::vector<std::string>& ids, bool alone = false,
                const std::function<void(const std::vector<std::string>&)>& gone = {});
  /// Removes a blob that no record names, alive or at rest, nobody holds and `unneeded`, if given, says of
  /// it; whether it is not here any more.
  result<bool> remove_blob(const digest& d, const std::function<bool(const blob_info&)>& unneeded = {});
  /// When the store is opened: what a crash or a power cut left, records and directories alike.
  status sweep();

 private:
  /// What goes with records: their ids, snapshots, and the blobs no other record names.
  struct removal {
    std::vector<std::string> ids;
    std::vector<std::uint64_t> snapshots;
    std::vector<std::string> blobs;
  };
  status forget(std::span<const std::string> ids, bool alone, removal& out);
  status finish_blobs(const std::vector<std::string>& digests);
  status sweep_blobs();
  status drop_torn_records();
  status drop_broken_records();
  status seal_retained();
  status sweep_results();

  record_table& records_;
  state_root& root_;
};

}  // namespace kiln::store
