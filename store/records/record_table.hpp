// All records: those in memory, and those at rest in the database. Private to the store.
//
// A record is loaded when somebody asks for it and forgotten when the last handle goes; the database is
// the truth about everything at rest. Changes of records are queued, not awaited: whatever later
// names a record (a cache key) is queued behind it and awaited, so nothing answered can be lost.
// Thread-safe. Its lock is taken after a record's, and is not held during I/O on snapshots.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "store/records/deferred_work.hpp"
#include "store/records/record.hpp"
#include "store/state_root.hpp"

namespace kiln::store {

class record_table : public std::enable_shared_from_this<record_table> {
 public:
  explicit record_table(std::unique_ptr<state_root> root) : root_(std::move(root)) {}
  ~record_table() { close(); }
  /// Begins to make durable what changes, in the background.
  status start();
  /// Ends that and writes what is queued. Handles may still be about.
  void close();

  state_root& root() noexcept { return *root_; }
  blob_store& blobs() noexcept { return root_->blobs(); }

  // Finding.
  record_ptr find_live(const std::string& id);
  /// The record, from memory or the database, with all that it stands on: that comes first, however much it
  /// is.
  result<record_ptr> load(const std::string& id);
  /// Whether there is such a record; loads nothing.
  bool has(const std::string& id);
  /// The record known under that chain id; null when there is none.
  result<record_ptr> find_chain(const std::string& chain);
  std::unordered_map<std::string, record_ptr> live();
  bool has_live();

  // Making and changing.
  static stored::Record fresh(record_kind kind, const record_options& options);
  /// A new record comes to memory, in use by the caller.
  record_ptr admit(stored::Record data, std::vector<record_ptr> parents);
  /// Queues the record as it is now. `unsynced`: its snapshot has changed and is not yet durable.
  void save(const record_ptr& r, bool unsynced);
  /// Changes a record in memory and, if it is there, in the database. `change` may run several times.
  void modify(const record_ptr& r, const std::function<void(stored::Record&)>& change);
  /// The record is the one of that chain id, unless another is in memory: that is returned.
  record_ptr claim_chain(const std::string& chain, const record_ptr& r);
  /// A lazy layer with a chain id; where there is one of that id, that (and `is_new` false).
  struct added_layer {
    record_ptr layer;
    bool is_new = false;
  };
  result<added_layer> add_layer(const record_ptr& parent, stored::Record data,
                                std::shared_ptr<blob_provider> provider);
  /// Its id, chain, … are forgotten by the database at once: of one that nobody else may use.
  status erase(const record_ptr& r);

  // Names of retained mutables: each has one user at a time.
  /// The id of the record that was kept under the name; empty when there is none.
  result<std::string> find_named(const std::string& name);
  bool is_leased(const std::string& name);
  /// A pointer of the user's own to the record, which has the name as long as copies of it live; null while
  /// another has it. Its snapshot is not durable any more once this returns.
  result<record_ptr> lease(const std::string& name, const record_ptr& r);
  /// The same for a record that is new and has to be saved; it is without a name when another has it.
  record_ptr lease_new(const std::string& name, const record_ptr& r);
  /// The name is free.
  status end_lease(const std::string& name, const record_ptr& r);

  // Removing (record_removal).
  /// Reserves a record for removal unless somebody has it: nobody may load it.
  bool begin_removal(const std::string& id);
  void end_removal(std::span<const std::string> ids);
  bool is_being_removed(const std::string& id);
  /// They are gone from the database: what was to be written of them is void.
  void removed(std::span<const std::string> ids);

  /// The snapshots of these were not durable when the last daemon ended, and the machine still runs.
  void add_unsynced(std::vector<std::string> ids);
  /// Commits the changes of records that nobody has waited for.
  status flush_records();

 private:
  friend class record;
  /// From ~record: the last handle went. Locks nothing of the record: nobody else can see it.
  void forget(record& r) noexcept;

  /// A record as the database has it.
  struct written_record {
    std::string bytes;
    stored::Record data;
  };
  result<written_record> read(const std::string& id);
  result<record_ptr> enliven(written_record written, std::vector<record_ptr> parents);
  status flush();
  status sync_snapshots();

  std::unique_ptr<state_root> root_;

  struct usage_change {
    std::int64_t count = 0;
    std::int64_t last_used_at_ns = 0;
    bool size_changed = false;
  };
  std::mutex mutex_;  // guards what follows
  std::unordered_map<std::string, std::weak_ptr<record>> live_;
  std::unordered_map<std::string, std::weak_ptr<record>> live_chains_;
  std::unordered_map<std::string, std::weak_ptr<record>> leases_;  // names, by their users
  std::unordered_set<std::string> being_removed_;                  // nobody may load them
  std::set<std::string> unsynced_;
  std::unordered_map<std::string, usage_change> usage_;
  bool is_closed_ = false;

  deferred_work flusher_;  // has a lock of its own
};

}  // namespace kiln::store
