// The private heart of ref_store: records in memory and in the metadata database, and what happens to them.
//
// A record is loaded when somebody asks for it and forgotten when the last handle goes; the database is
// the truth about everything at rest. Changes of records are queued, not awaited: whatever later
// names a record (a cache key) is queued behind it and awaited, so nothing answered can be lost.
// Locks, in this order: record::mutex, then store_core::mutex_. Neither is held during I/O on snapshots.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <unordered_map>
#include <unordered_set>

#include "store.pb.h"

#include "base/thread.hpp"
#include "store/database/cache_keys.hpp"
#include "store/files/file_facts.hpp"
#include "store/database/metadata_db.hpp"
#include "store/ref_store.hpp"
#include "store/snapshots.hpp"
#include "store/files/turns.hpp"

namespace kiln::store {

class store_core;

/// What a blob of a layer is for.
enum class blob_form : int {
  own = 0,        // a form of the layer as registries and images know it
  transport = 1,  // made for other nodes: the exact change, never exported
  archive = 2,    // the image tar, where the transport form is another change than the one exported
};

enum class record_kind : int { layer = 0, merge = 1, diff = 2 };

/// What a record's state is made of, as its parents tell it.
struct state_shape {
  std::size_t layers = 0;  // see store_core::flatten()
  /// Of a difference that shows layers of its upper side: how many of those, the lowest, it leaves out.
  std::optional<std::size_t> left_out = {};
  std::size_t nested = 0;  // how many states may have to be made one within the other
};

struct record {
  record(std::shared_ptr<store_core> owner, stored::Record stored_record,
         std::vector<std::shared_ptr<record>> parent_records);
  ~record();
  record(const record&) = delete;
  record& operator=(const record&) = delete;

  record_kind kind() const { return static_cast<record_kind>(kind_); }
  /// A caller gets it. Call with `mutex` held or before anybody else knows it.
  void count_use() {
    ++uses;
    last_used_ns = now_ns();
  }
  /// Number of the snapshot on disk, 0 while there is none.
  std::uint64_t snapshot();
  stored::Record copy();
  /// Call with `mutex` held: whatever may bring its blobs; null when nothing can.
  std::shared_ptr<blob_provider> any_provider() const;
  void take_provider(std::shared_ptr<blob_provider> p);
  /// Call with `mutex` held, or before anybody else knows it, whenever its blobs have changed.
  void hold_blobs();

  const std::shared_ptr<store_core> core;
  const std::string id;
  const int kind_;
  const bool computed;     // of a diff: has a snapshot of its own even where layers could be reused
  const std::string name;  // it was acquired under, if it is or was a retained mutable
  std::vector<std::shared_ptr<record>>
      parents;  // never changed; diff: lower, upper; either may be null (scratch)

  const state_shape shape;

  std::mutex mutex;  // guards the rest
  stored::Record data;
  std::map<std::string, blob_hold> blobs;  // holds those it names, by digest
  std::shared_ptr<blob_provider> provider;
  std::shared_ptr<blob_provider> peer;     // the node it came from last
  bool is_stored = false;                  // the database has it, or will have
  bool is_frozen = false;                  // the database never will: its snapshot goes with it
  std::atomic<bool> is_discarded = false;  // nor ever again
  std::int64_t uses = 0;                   // how often a caller was given it, and when last
  std::int64_t last_used_ns = 0;

  std::optional<bool>
      is_plain;                 // whether its upper directory is as its normalized layer would be, once known
  std::weak_ptr<record> plain;  // the normalized layer, where it is another
  std::map<std::string, std::weak_ptr<record>> flats;  // stacks it is the top of, as one layer
  std::vector<std::shared_ptr<record>> pins;  // plain and flat forms that its mounts need besides its parents

  // One job at a time makes the snapshot.
  std::condition_variable_any made;
  bool being_made = false;
};

using record_ptr = std::shared_ptr<record>;

class store_core : public std::enable_shared_from_this<store_core> {
 public:
  static result<std::shared_ptr<store_core>> open(ref_store_options options);
  ~store_core();
  /// Stops the background thread and writes what is queued. Handles may still be about.
  void close();

  // Handles (store_handles.cpp). Meanings as in ref_store.
  result<ref> get(std::string_view id);
  result<mutable_ref> create(const ref& parent, const record_options& options, const job_context& job);
  result<mutable_ref> acquire_named(std::string_view name, const ref& parent, const record_options& options,
                                    const job_context& job);
  result<ref> commit(mutable_ref m);
  result<ref> freeze(mutable_ref m);
  status discard(mutable_ref m);
  status drop_untouched(const record_ptr& r);
  result<ref> commit_copy(const mutable_ref& m, const record_options& options, const job_context& job);
  result<ref> layer(const ref& parent, layer_blob blob, std::shared_ptr<blob_provider> provider,
                    const record_options& options);
  result<ref> merge(std::span<const ref> refs, const record_options& options);
  result<ref> diff(const ref& lower, const ref& upper, const record_options& options);

  // Bytes (store_bytes.cpp; unlazy is in store_making.cpp).
  status unlazy(const record_ptr& r, const job_context& job);
  result<std::vector<mount_spec>> mounts(const record_ptr& r, const job_context& job);
  result<std::vector<mount_spec>> mounts(const mutable_ref& m);
  result<std::vector<layer_info>> layers(const record_ptr& r, const job_context& job);
  status write_layer_tar(std::string_view layer_id, byte_sink& out, const job_context& job);
  status write_image_tar(const record_ptr& r, byte_sink& out, const job_context& job);
  status add_layer_blob(std::string_view layer_id, const layer_blob& blob);

  // Other nodes (store_shipping.cpp).
  result<std::vector<shipped_layer>> export_to_peer(const record_ptr& r, const job_context& job);
  result<ref> receive(const ref& parent, const shipped_layer& layer, std::shared_ptr<blob_provider> provider,
                      const record_options& options);
  void offer(const record_ptr& r, const std::shared_ptr<blob_provider>& peer);
  status fetch_blob(const record_ptr& r, const digest& blob, const job_context& job);
  record_options options_of(const record_ptr& r);

  // Space (store_space.cpp; remove_blob is in store_records.cpp).
  /// Removes a blob that no record names, alive or at rest, nobody holds and `unneeded`, if given, says of
  /// it; whether it is not here any more.
  result<bool> remove_blob(const digest& d, const std::function<bool(const blob_info&)>& unneeded = {});
  std::optional<std::int64_t> own_size(const record_ptr& r);
  result<std::vector<usage_record>> disk_usage(const std::vector<std::string>& filters);
  status prune(const prune_options& options, const std::function<void(const usage_record&)>& removed);

  // Small values.
  std::optional<std::string> metadata(std::string_view record_id, std::string_view key);
  status set_metadata(std::string_view record_id, std::string_view key, std::string_view value);
  std::optional<std::string> value(std::string_view bucket, std::string_view key);
  status set_value(std::string_view bucket, std::string_view key, std::string_view value);
  status erase_value(std::string_view bucket, std::string_view key);
  std::vector<std::pair<std::string, std::string>> values(std::string_view bucket);

  result<std::filesystem::path> temporary_directory(std::string_view purpose);
  blob_store& blobs() { return *blobs_; }
  cache_keys& keys() { return *keys_; }
  snapshots& disk() { return *snapshots_; }
  metadata_db& database() { return *database_; }

  // Layers (store_layers.cpp).
  /// The layers a record's state is made of, bottom first; those that occur twice are there twice.
  /// A record that must be computed (a real difference) stands for itself. Costs what it returns, and a
  /// little for every merge and difference on the way, however deep.
  static std::vector<record_ptr> flatten(const record_ptr& r);
  static state_shape shape_of(record_kind kind, bool computed, const std::vector<record_ptr>& parents);
  /// resource_exhausted when a state would be of more layers, or nested deeper, than allowed.
  static status check_shape(const state_shape& shape);
  /// Each layer at its topmost place only: one that comes again covers all that its earlier place shows.
  static std::vector<record_ptr> dedupe_layers(const std::vector<record_ptr>& layers);
  /// The layers of an overlay mount, bottom first, all on disk. A layer on top of others than it was made on
  /// changes only what it changed there, so one that is not plain (difference.hpp) is replaced by its
  /// normalized layer. Of more than limits::stacked_layers the lowest are replaced by one that is all of
  /// them.
  result<std::vector<record_ptr>> mount_layers(const record_ptr& r, const job_context& job);

  void forget(record& r) noexcept;  // from ~record (store_records.cpp)

 private:
  explicit store_core(const ref_store_options& options) : root_(options.root) {}
  status prepare(const ref_store_options& options);
  status claim_root(const ref_store_options& options);
  status lock_root();
  status sweep();
  status drop_torn_records();
  status seal_retained();
  status sweep_results();

  // Records (store_records.cpp).
  record_ptr find_live(const std::string& id);
  result<record_ptr> load(const std::string& id);
  /// A record as the database has it.
  struct written_record {
    std::string bytes;
    stored::Record data;
  };
  result<written_record> read_record(const std::string& id);
  result<record_ptr> enliven(written_record written, std::vector<record_ptr> parents);
  record_ptr admit(stored::Record stored_record, std::vector<record_ptr> parents);
  stored::Record fresh(record_kind kind, const record_options& options);
  void store_record(const record_ptr& r, bool unsynced);
  void modify(const record_ptr& r, const std::function<void(stored::Record&)>& change);
  static status put_record(transaction& t, const stored::Record& r);
  static status erase_record(transaction& t, const stored::Record& r,
                             std::vector<std::string>& orphaned_blobs);
  status remove_records(const std::vector<std::string>& ids, bool alone = false,
                        const std::function<void(const std::vector<std::string>&)>& gone = {});
  /// What goes with records: their ids, snapshots, and the blobs no other record names.
  struct removal {
    std::vector<std::string> ids;
    std::vector<std::uint64_t> snapshots;
    std::vector<std::string> blobs;
  };
  status forget_records(std::span<const std::string> ids, bool alone, removal& out);
  status finish_blobs(const std::vector<std::string>& digests);
  status sweep_blobs();

  // Handles (store_handles.cpp).
  bool is_available(const record_ptr& r);
  result<ref> derived(record_kind kind, std::vector<record_ptr> parents, const record_options& options);
  result<record_ptr> find_chain(const std::string& chain);
  result<ref> new_layer(const ref& parent, stored::Record record_data,
                        std::shared_ptr<blob_provider> provider, record_ptr& existing);

  // Other nodes (store_shipping.cpp).
  static void add_blob(stored::Record& r, const stored::Blob& blob);
  result<shipped_layer> export_layer(const record_ptr& layer, bool grounded, const record_ptr& whole,
                                     const job_context& job);
  result<layer_blob> transport_form(const record_ptr& r, blob_form form, const job_context& job);

  // Layers (store_layers.cpp).
  struct placed_layer {
    record_ptr layer;
    record_ptr rebased;  // the record that put it there; null: it lies where it was made
  };
  /// As flatten(), with who puts them on another parent: a merge its later inputs, a difference what it
  /// reuses.
  static std::vector<placed_layer> place_layers(const record_ptr& r);
  /// Whether it is a layer that was made on its parent, so that what it changed is known by comparing the
  /// two.
  static bool has_own_ground(const record_ptr& r);
  result<bool> is_plain(const record_ptr& layer, const job_context& job);
  /// What the layer changed over its own parent and no more, with every removal a whiteout of its own.
  result<record_ptr> normalized_layer(const record_ptr& layer, const record_ptr& user,
                                      const job_context& job);
  result<record_ptr> flat_form(const std::vector<record_ptr>& layers, const record_ptr& user,
                               const job_context& job);
  std::vector<std::uint64_t> numbers_of(const std::vector<record_ptr>& layers);

  // Snapshots (store_making.cpp).
  struct making;
  status ensure_layers(const std::vector<record_ptr>& layers, const job_context& job);
  status prepare_mount(const record_ptr& r, const job_context& job);
  status make_one(making& m, const job_context& job);
  /// Directories of the layers below, topmost first; without them, unpacking stops where they are needed.
  using layers_below = std::optional<std::vector<std::filesystem::path>>;
  status make_from_blob(making& m, layers_below below, const job_context& job);
  status make_above_parents(making& m, const job_context& job);
  status keep_made(const making& m);
  status unpack_blob(making& m, const std::filesystem::path& target, layers_below below,
                     const job_context& job);
  status make_difference(making& m, const job_context& job);
  status make_native(const record_ptr& r, const job_context& job);
  std::vector<record_ptr> native_order(const record_ptr& r);
  status make_one_native(const record_ptr& r, const job_context& job);
  result<layer_blob> fetch_blob(const record_ptr& r, const job_context& job);
  result<layer_blob> bring(const record_ptr& r, std::vector<layer_blob> forms, const job_context& job);

  /// Where a record's whole state is: its own directory, or a mount (store_bytes.cpp).
  result<std::filesystem::path> state_directory(const record_ptr& r,
                                                std::optional<class scoped_mount>& mounted,
                                                const job_context& job);

  // Space (store_space.cpp).
  std::int64_t measure_snapshot(const stored::Record& r);
  std::int64_t measure_blobs(const stored::Record& r);
  result<std::vector<usage_record>> all_usage();
  result<std::vector<usage_record>> loose_usage(const std::unordered_map<std::string, record_ptr>& live);
  bool doom(const std::string& id);
  result<bool> remove_loose(const digest& d);
  bool drop_stale_loose(const usage_record& u);
  status drop_unreferenced_blobs();

  // Background work: durable snapshots, usage counts.
  void run_background(std::stop_token stop);
  void wake_background();
  status flush();
  status flush_records();
  struct usage_change {
    std::int64_t count = 0;
    std::int64_t last_used_at_ns = 0;
    bool size_changed = false;
  };

  std::filesystem::path root_;
  unique_fd lock_;
  std::string boot_id_;
  std::unique_ptr<metadata_db> database_;
  std::unique_ptr<blob_store> blobs_;
  std::unique_ptr<snapshots> snapshots_;
  std::unique_ptr<cache_keys> keys_;

  std::mutex prune_mutex_;  // one prune at a time
  turns flats_;             // of flat forms being made

  std::mutex mutex_;  // guards what follows
  std::unordered_map<std::string, std::weak_ptr<record>> live_;
  std::unordered_map<std::string, std::weak_ptr<record>> live_chains_;
  std::unordered_map<std::string, std::weak_ptr<record>> live_names_;  // by their users
  std::unordered_set<std::string> deleting_;                           // being removed: nobody may load them
  std::set<std::string> unsynced_;
  std::unordered_map<std::string, usage_change> usage_;
  bool work_queued_ = false;
  bool closed_ = false;
  std::condition_variable_any background_wake_;
  std::stop_source background_stop_;
  thread background_;
};

/// The right to make a record's snapshot, or a form of it; others wait for it.
class materialize_lock {
 public:
  static result<materialize_lock> acquire(const record_ptr& r, const job_context& job);
  materialize_lock(materialize_lock&& other) noexcept = default;
  materialize_lock& operator=(materialize_lock&& other) noexcept {
    std::swap(record_, other.record_);
    return *this;
  }
  ~materialize_lock();

 private:
  explicit materialize_lock(record_ptr r) : record_(std::move(r)) {}
  record_ptr record_;
};

/// Mounts specs below the store's temporary directory for as long as it lives.
class scoped_mount {
 public:
  static result<scoped_mount> make(store_core& core, const std::vector<mount_spec>& specs);
  scoped_mount(scoped_mount&& other) noexcept;
  ~scoped_mount();
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  scoped_mount() = default;
  std::filesystem::path path_;
  bool is_mount_ = false;
};

// Conversions between what is stored and what callers see.
stored::Blob to_stored(const layer_blob& blob, blob_form form = blob_form::own);
/// The layer's blobs of one form.
std::vector<layer_blob> blobs_of(const stored::Record& r, blob_form form);
layer_blob from_stored(const stored::Blob& blob);
usage_record usage_of(const stored::Record& r);

}  // namespace kiln::store
