#include "store/state_root.hpp"

#include <spdlog/spdlog.h>

#include "base/files.hpp"
#include "configs/state_files.hpp"
#include "configs/store.hpp"
#include "store/database/cache_keys_db.hpp"
#include "store/files/confinement.hpp"
#include "store/files/mount.hpp"
#include "store/files/private_directory.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

namespace {
constexpr const char* window_name = "for-containers";  // where these see the snapshots
constexpr const char* scratch_name = "transient";
constexpr const char* bucket = "store";  // of our own small values
}  // namespace

result<std::unique_ptr<state_root>> state_root::open(const ref_store_options& options) {
  std::unique_ptr<state_root> out(new state_root(options.root));
  KILN_CHECK(out->claim(options.confine));
  if (auto text = read_file("/proc/sys/kernel/random/boot_id", 1024); text.ok()) out->boot_id_ = *text;
  KILN_TRY(out->blobs_, blob_store::open(out->path_ / "blobs"));
  KILN_TRY(out->database_, metadata_db::open(out->path_ / configs::database_file));
  out->values_ = std::make_unique<value_store>(*out->database_);
  KILN_CHECK(out->choose_snapshotter(options));
  out->keys_ = make_cache_keys(*out->database_);
  return out;
}

/// Makes the state ours alone, and keeps us away from what builds put into it.
status state_root::claim(bool confined) {
  auto root = private_directory::open(path_);
  if (!root.ok()) return std::move(root).error().with_context("state directory");
  path_ = root->path();
  scratch_ = scratch_directory(path_ / scratch_name);
  KILN_TRY(lock_, lock_file::take(path_ / configs::lock_file));
  KILN_TRY(auto leaked, unmount_below(path_));
  if (leaked > 0) spdlog::info("store: undid {} leaked mounts below {}", leaked, path_.string());
  for (auto name : {scratch_name, "blobs", "snapshots"}) {
    auto made = root->directory(name);
    if (!made.ok()) return std::move(made).error().with_context("state directory");
  }
  std::error_code unreadable;
  if (!fs::is_empty(path_ / scratch_name, unreadable)) {
    KILN_CHECK(leftovers::set_aside(path_ / scratch_name));
    KILN_CHECK(root->directory(scratch_name));
  }
  if (!confined) return {};
  KILN_CHECK(root->directory(window_name));
  return confine(path_, path_ / "snapshots", path_ / window_name);
}

status state_root::choose_snapshotter(const ref_store_options& options) {
  auto known = values_->get(bucket, "snapshotter").value_or("");
  KILN_TRY(snapshots_, store::snapshots::open(path_ / "snapshots", options.snapshotter, known,
                                              options.confine ? path_ / window_name : fs::path()));
  if (snapshots_->known() != known)
    if (auto kept = values_->set(bucket, "snapshotter", snapshots_->known()); !kept)
      spdlog::warn("store: {}", kept.error().message);
  // Layers of one snapshotter mean nothing to another: what exists decides unless told otherwise.
  auto layered = std::string(snapshots_->layered() ? "layered" : "native");
  auto before = values_->get(bucket, "snapshots");
  if (before == layered) return {};
  if (before) {
    KILN_TRY(auto made, snapshots_->list());
    if (!made.empty())
      return make_error(errc::failed_precondition, "the state in " + path_.string() + " was made by a " +
                                                       *before + " snapshotter and cannot be used with " +
                                                       std::string(to_string(snapshots_->kind())));
  }
  return values_->set(bucket, "snapshots", layered);
}

void state_root::drop_snapshot(std::uint64_t number) noexcept {
  if (auto gone = snapshots_->remove(number); !gone) spdlog::warn("store: {}", gone.error().message);
}

}  // namespace kiln::store
