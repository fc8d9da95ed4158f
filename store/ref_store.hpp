// Cache records and their handles: layers, merges, diffs and mutable snapshots, lazily backed by blobs. The
// store is records that come and go; what is done with a ref (mounts, layers, the way to other nodes) and
// what all of them cost are parts of it, each with state and locks of its own.
//
// Records survive restarts; what was not committed is swept at start. Thread-safe.
// Knows nothing of ops, builds or images.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

#include "base/result.hpp"
#include "messages/job.hpp"
#include "store/blobs/blob_store.hpp"
#include "store/database/values.hpp"
#include "store/files/mount.hpp"
#include "store/files/scratch_directory.hpp"
#include "store/layers/layer_blob.hpp"
#include "store/layers/ref_layers.hpp"
#include "store/materialize/ref_files.hpp"
#include "store/peers/peer_transfer.hpp"
#include "store/records/ref.hpp"
#include "store/snapshotter_kind.hpp"
#include "store/space/space.hpp"

namespace kiln::store {

class cache_keys;
enum class record_kind : int;

struct ref_store_options {
  std::filesystem::path root;  // the daemon's state directory
  snapshotter_kind snapshotter = snapshotter_kind::automatic;
  /// We have a mount namespace of our own: in it the state becomes nodev, nosuid and noexec
  /// (confinement.hpp).
  bool confine = false;
};

class ref_store {
 public:
  /// Opens or creates the state below `root`, sweeps what no record names (snapshots, temporary
  /// files, mounts below root), and reports what it swept through spdlog.
  static result<std::unique_ptr<ref_store>> open(ref_store_options options);
  /// Handles may still be about; nothing else may be asked of the store any more.
  ~ref_store();

  // Records.
  /// not_found when no such immutable record exists (any more).
  result<ref> get(std::string_view id);
  /// Whether there is such a record, of any kind; uses and loads nothing.
  bool has(std::string_view id);
  /// A new snapshot on top of `parent` (scratch when empty).
  result<mutable_ref> create(const ref& parent, const record_options& options, const job_context& job);
  /// The retained mutable record of that name (cache mounts, local sources), created on `parent` if
  /// new. failed_precondition while it is in use elsewhere.
  result<mutable_ref> acquire_named(std::string_view name, const ref& parent, const record_options& options,
                                    const job_context& job);
  /// Makes an immutable record of the snapshot. An unchanged snapshot may commit to its parent.
  result<ref> commit(mutable_ref m);
  /// What was written so far, to be looked at and not kept: an immutable ref that goes with its last handle
  /// and is in no cache.
  result<ref> freeze(mutable_ref m);
  /// Removes a retained mutable record, its name with it: what was begun in it is of no use.
  status discard(mutable_ref m);
  /// An immutable copy of a retained mutable record's present state; the name keeps its own.
  result<ref> commit_copy(const mutable_ref& m, const record_options& options, const job_context& job);
  /// A lazy layer on top of `parent`; the existing record when one of the same chain id exists.
  result<ref> layer(const ref& parent, layer_blob blob, std::shared_ptr<blob_provider> provider,
                    const record_options& options);
  /// Later refs on top of earlier ones; lazy. Empty refs are dropped; one left is returned itself.
  result<ref> merge(std::span<const ref> refs, const record_options& options);
  /// What `upper` changed over `lower`; lazy. Reuses upper's own layers where it is built on lower.
  result<ref> diff(const ref& lower, const ref& upper, const record_options& options);

  // Parts.
  /// Refs as files: their snapshots and mounts.
  ref_files& files() noexcept;
  /// Refs as layers: archives and blobs, for images.
  ref_layers& layers() noexcept;
  /// Refs that go to other nodes and come from them.
  peer_transfer& peers() noexcept;
  /// What all of it costs, and getting that back.
  store_space& space() noexcept;
  /// Small values of records and of the daemon.
  value_store& values() noexcept;
  blob_store& blobs() noexcept;
  cache_keys& keys() noexcept;
  /// Directories for a moment, on the file system of the snapshots; swept at start.
  const scratch_directory& scratch() const noexcept;
  snapshotter_kind snapshotter() const noexcept;

 private:
  struct parts;
  explicit ref_store(std::unique_ptr<parts> p);
  result<ref> derive(record_kind kind, std::vector<std::shared_ptr<record>> parents,
                     const record_options& options);
  status copy_parent(const ref& parent, std::uint64_t number, const job_context& job);
  result<mutable_ref> create_named(const std::string& name, const ref& parent, const record_options& options,
                                   const job_context& job);
  status drop_unchanged_dirs(const std::shared_ptr<record>& r);

  std::unique_ptr<parts> parts_;
};

}  // namespace kiln::store
