// What lies below the state directory, opened: the lock that makes it ours alone, the database, blobs,
// snapshots, cache keys, small values, scratch space. Knows nothing of records. Thread-safe.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "base/lock_file.hpp"
#include "base/result.hpp"
#include "store/blobs/blob_store.hpp"
#include "store/database/cache_keys.hpp"
#include "store/database/metadata_db.hpp"
#include "store/database/values.hpp"
#include "store/files/scratch_directory.hpp"
#include "store/leftovers.hpp"
#include "store/ref_store.hpp"
#include "store/snapshots.hpp"

namespace kiln::store {

class state_root {
 public:
  /// Opens or creates it; undoes leaked mounts and begins with an empty scratch directory.
  static result<std::unique_ptr<state_root>> open(const ref_store_options& options);

  const std::filesystem::path& path() const noexcept { return path_; }
  /// The machine's current start: what is not synced is lost with it.
  const std::string& boot_id() const noexcept { return boot_id_; }
  metadata_db& database() noexcept { return *database_; }
  blob_store& blobs() noexcept { return *blobs_; }
  store::snapshots& snapshots() noexcept { return *snapshots_; }
  cache_keys& keys() noexcept { return *keys_; }
  value_store& values() noexcept { return *values_; }
  const scratch_directory& scratch() const noexcept { return scratch_; }
  /// Makes a snapshot with what `fill` does in it; nothing stays of one that could not be filled.
  template <class F>
  result<std::uint64_t> make_snapshot(F fill) {
    KILN_TRY(auto number, snapshots_->create());
    status done = fill(snapshots_->fs_of(number));
    if (done.ok()) return number;
    drop_snapshot(number);
    return std::move(done).error();
  }
  /// Begins to remove what the start has set aside.
  void clear_leftovers() { leftovers_.clear({path_, path_ / "snapshots"}); }
  /// What stays is swept at the next start, and logged.
  void drop_snapshot(std::uint64_t number) noexcept;

 private:
  explicit state_root(const std::filesystem::path& path) : path_(path), scratch_(path) {}
  status claim(bool confined);
  status choose_snapshotter(const ref_store_options& options);

  std::filesystem::path path_;
  lock_file lock_;
  std::string boot_id_;
  scratch_directory scratch_;
  std::unique_ptr<metadata_db> database_;
  std::unique_ptr<blob_store> blobs_;
  std::unique_ptr<value_store> values_;
  std::unique_ptr<store::snapshots> snapshots_;
  std::unique_ptr<cache_keys> keys_;
  leftovers leftovers_;
};

}  // namespace kiln::store
