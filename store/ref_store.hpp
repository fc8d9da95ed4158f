// Cache records and their handles: layers, merges, diffs and mutable snapshots, lazily backed by blobs.
//
// A `ref` is an immutable file-system state; a `mutable_ref` one that is being written. Handles pin
// their record (and its parents) in memory; a record nobody pins stays until garbage collection or
// prune. Records survive restarts; what was not committed is swept at start. Thread-safe.
// Knows nothing of ops, builds or images.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "messages/descriptor.hpp"
#include "messages/job.hpp"
#include "store/blobs/blob_store.hpp"

namespace kiln::store {

class cache_keys;
struct record;  // private to the implementation

/// What `du` calls a record. Source: features.md B, record types (a closed set).
enum class record_type { regular, internal, frontend, source_local, source_git_checkout, exec_cachemount };
std::string_view to_string(record_type t);

struct record_options {
  std::string description = {};
  record_type type = record_type::regular;
  std::int64_t created_at_ns = 0;  // 0 = now
};

/// A handle to an immutable record; copying shares the pin. Empty = scratch.
class ref {
 public:
  ref() = default;
  explicit ref(std::shared_ptr<record> r) : record_(std::move(r)) {}
  explicit operator bool() const noexcept { return record_ != nullptr; }
  /// The record's id; empty for scratch.
  const std::string& id() const;
  const std::shared_ptr<record>& get() const noexcept { return record_; }

 private:
  std::shared_ptr<record> record_;
};

/// Exclusive handle to a record being written. Dropped uncommitted, its snapshot is removed,
/// unless it was acquired by name (retained), when it stays for its next user.
class mutable_ref {
 public:
  mutable_ref() = default;
  explicit mutable_ref(std::shared_ptr<record> r) : record_(std::move(r)) {}
  mutable_ref(mutable_ref&&) noexcept = default;
  mutable_ref& operator=(mutable_ref&& other) noexcept;
  ~mutable_ref();
  explicit operator bool() const noexcept { return record_ != nullptr; }
  const std::string& id() const;
  const std::shared_ptr<record>& get() const noexcept { return record_; }
  std::shared_ptr<record> release() noexcept { return std::move(record_); }

 private:
  std::shared_ptr<record> record_;
};

/// One mount(2) to make: type "bind" or "overlay" (or "fuse-overlayfs", a helper to start).
struct mount_spec {
  std::string type;
  std::string source;
  std::vector<std::string> options;
  std::string container_source =
      {};  // what containers bind instead, where ours is confined (confinement.hpp)
};

/// Who will look into a mount. What the daemon looks into itself is nodev, nosuid and noexec.
enum class mount_use { daemon, container };

/// A compressed form of one layer.
struct layer_blob {
  descriptor blob;       // media type, digest, size as they go into a manifest
  kiln::digest diff_id;  // digest of the uncompressed tar
  blob_hold hold = {};   // of one that was made, or found, until who has this needs it no more
};

/// Brings a layer's blob into the blob store when somebody needs its bytes.
class blob_provider {
 public:
  virtual ~blob_provider() = default;
  /// Blocking; resumes; verifies. Reports progress through the job.
  virtual status fetch(const descriptor& blob, blob_store& into, const job_context& job) = 0;
  /// Whether it brings blobs from another node. A layer may have one such besides a lasting source.
  virtual bool is_peer() const { return false; }
};

/// One layer of a flattened ref, bottom first.
struct layer_info {
  std::string id;                           // record id of the layer
  std::vector<layer_blob> blobs;            // known compressed forms, best first; may be empty
  std::shared_ptr<blob_provider> provider;  // where blobs not in the store come from; may be null
  std::string description;
  std::int64_t created_at_ns = 0;
};

/// One layer of a ref as it goes from node to node. What was made here has its own forms only once it was
/// exported, and exporters on any node must see those and no others, so that images come out the same
/// everywhere; on the way such a layer has a form of its own, which also keeps what images leave out.
struct shipped_layer {
  std::string origin;                   // its record on the node that made it; empty: it came as a blob
  std::vector<layer_blob> blobs;        // its own forms, best first
  std::optional<layer_blob> transport;  // what to unpack instead; never exported
  std::optional<layer_blob> archive;    // what write_layer_tar() gives, where `transport` is another change
  bool rebased = false;                 // it was made on other layers than those below it
  std::string description;
  std::int64_t created_at_ns = 0;
};

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

struct prune_options {
  std::vector<std::string> filters = {};  // containerd filter syntax, any may match
  bool all = false;                       // also internal and frontend records
  std::int64_t keep_duration_ns = 0;
  std::int64_t reserved_space = 0;  // bytes
  std::int64_t max_used_space = 0;  // bytes
  std::int64_t min_free_space = 0;  // bytes
};

enum class snapshotter_kind { automatic, overlayfs, fuse_overlayfs, native };
result<snapshotter_kind> parse_snapshotter(std::string_view text);
std::string_view to_string(snapshotter_kind k);

struct ref_store_options {
  std::filesystem::path root;  // the daemon's state directory
  snapshotter_kind snapshotter = snapshotter_kind::automatic;
  /// We have a mount namespace of our own: in it the state becomes nodev, nosuid and noexec
  /// (confinement.hpp).
  bool confine = false;
};

class ref_store {
 public:
  virtual ~ref_store() = default;
  /// Opens or creates the state below `root`, sweeps what no record names (snapshots, temporary
  /// files, mounts below root), and reports what it swept through spdlog.
  static result<std::unique_ptr<ref_store>> open(ref_store_options options);

  virtual blob_store& blobs() = 0;
  virtual cache_keys& keys() = 0;
  virtual snapshotter_kind snapshotter() const = 0;
  /// A fresh directory below root on the same file system, swept at start. The caller removes it.
  virtual result<std::filesystem::path> temporary_directory(std::string_view purpose) = 0;

  // Handles.
  /// not_found when no such immutable record exists (any more).
  virtual result<ref> get(std::string_view id) = 0;
  /// A new snapshot on top of `parent` (scratch when empty).
  virtual result<mutable_ref> create(const ref& parent, const record_options& options,
                                     const job_context& job) = 0;
  /// The retained mutable record of that name (cache mounts, local sources), created on `parent` if
  /// new. failed_precondition while it is in use elsewhere.
  virtual result<mutable_ref> acquire_named(std::string_view name, const ref& parent,
                                            const record_options& options, const job_context& job) = 0;
  /// Makes an immutable record of the snapshot. An unchanged snapshot may commit to its parent.
  virtual result<ref> commit(mutable_ref m) = 0;
  /// What was written so far, to be looked at and not kept: an immutable ref that goes with its last handle
  /// and is in no cache.
  virtual result<ref> freeze(mutable_ref m) = 0;
  /// Removes a retained mutable record, its name with it: what was begun in it is of no use.
  virtual status discard(mutable_ref m) = 0;
  /// An immutable copy of a retained mutable record's present state; the name keeps its own.
  virtual result<ref> commit_copy(const mutable_ref& m, const record_options& options,
                                  const job_context& job) = 0;
  /// A lazy layer on top of `parent`; the existing record when one of the same chain id exists.
  virtual result<ref> layer(const ref& parent, layer_blob blob, std::shared_ptr<blob_provider> provider,
                            const record_options& options) = 0;
  /// Later refs on top of earlier ones; lazy. Empty refs are dropped; one left is returned itself.
  virtual result<ref> merge(std::span<const ref> refs, const record_options& options) = 0;
  /// What `upper` changed over `lower`; lazy. Reuses upper's own layers where it is built on lower.
  virtual result<ref> diff(const ref& lower, const ref& upper, const record_options& options) = 0;

  // Bytes.
  /// Ensures that the snapshot exists on disk (pulls and unpacks what is lazy).
  virtual status unlazy(const ref& r, const job_context& job) = 0;
  /// Read-only mounts of a ref; unlazies it. Scratch is an empty directory.
  virtual result<std::vector<mount_spec>> mounts(const ref& r, const job_context& job) = 0;
  virtual result<std::vector<mount_spec>> mounts(const mutable_ref& m) = 0;
  /// Flattened layers, bottom first (merges and diffs resolved). Moves no bytes for lazy layers.
  virtual result<std::vector<layer_info>> layers(const ref& r, const job_context& job) = 0;
  /// Writes the layer's difference to its parent as an uncompressed OCI layer tar (whiteouts as
  /// `.wh.` files), entries sorted, reproducible.
  virtual status write_layer_tar(std::string_view layer_id, byte_sink& out, const job_context& job) = 0;
  /// The layers of a ref for another node, bottom first. Those that were made here get a transport form,
  /// once: it is kept with the record and goes with it. Moves no bytes for lazy layers that have blobs of
  /// their own.
  virtual result<std::vector<shipped_layer>> export_to_peer(const ref& r, const job_context& job) = 0;
  /// The other end of export_to_peer(): a lazy layer on top of `parent`, or the record that is the same
  /// layer.
  virtual result<ref> receive(const ref& parent, const shipped_layer& layer,
                              std::shared_ptr<blob_provider> provider, const record_options& options) = 0;
  /// Layers of the ref whose bytes are not here may come from this peer from now on.
  virtual void offer(const ref& r, const std::shared_ptr<blob_provider>& peer) = 0;
  /// Brings a blob of one of the ref's layers into the blob store from wherever that layer knows.
  virtual status fetch_blob(const ref& r, const digest& blob, const job_context& job) = 0;
  /// Description and type of a record.
  virtual record_options options_of(const ref& r) = 0;
  /// Remembers a compressed form of a layer whose bytes are in the blob store, held by the caller until then.
  virtual status add_layer_blob(std::string_view layer_id, const layer_blob& blob) = 0;

  // Metadata kept with a record: small values for op handlers (content hashes, etags, …).
  virtual std::optional<std::string> metadata(std::string_view record_id, std::string_view key) = 0;
  virtual status set_metadata(std::string_view record_id, std::string_view key, std::string_view value) = 0;
  /// Values of the daemon's own (not tied to a record): same store, same durability.
  virtual std::optional<std::string> value(std::string_view bucket, std::string_view key) = 0;
  virtual status set_value(std::string_view bucket, std::string_view key, std::string_view value) = 0;
  virtual status erase_value(std::string_view bucket, std::string_view key) = 0;
  virtual std::vector<std::pair<std::string, std::string>> values(std::string_view bucket) = 0;
  /// How many records there are at rest. Cheap.
  virtual std::size_t record_count() = 0;

  // Space.
  /// Bytes in allocated blocks of the record without its parents; measured once. Nothing of a lazy one.
  virtual std::optional<std::int64_t> own_size(const ref& r) = 0;
  /// Removes a blob that no record names and nobody holds; otherwise leaves it.
  virtual status drop_blob(const digest& d) = 0;
  /// Records, and content that none names (unfinished downloads): that has its digest as id.
  virtual result<std::vector<usage_record>> disk_usage(const std::vector<std::string>& filters) = 0;
  /// Removes unused records by policy, telling each; also drops cache keys whose results went. Works on a
  /// full disk. What could not be removed is an error, after all else is.
  virtual status prune(const prune_options& options,
                       const std::function<void(const usage_record&)>& removed) = 0;
};

/// Mounts a ref or snapshot on a private directory and unmounts it on destruction. Move-only.
class mounted {
 public:
  mounted() = default;
  mounted(mounted&& other) noexcept;
  mounted& operator=(mounted&& other) noexcept;
  ~mounted();
  /// The mount point is a temporary directory of the store. A lone writable bind needs no mount. What is for
  /// a container we look into through open_confined() only.
  static result<mounted> make(ref_store& store, const std::vector<mount_spec>& specs,
                              mount_use use = mount_use::daemon);
  const std::filesystem::path& path() const noexcept { return path_; }
  status unmount();

 private:
  std::filesystem::path path_;
  bool is_mount_ = false;  // a single read-write bind needs no mount: path_ is the directory itself
  pid_t helper_ = -1;      // fuse-overlayfs
};

}  // namespace kiln::store
