// One cache record in memory: what it stands on, which never changes, and what is known of it, behind its own
// lock. Private to the store.
//
// Its lock is taken before the record table's, never after, and is not held during I/O.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "store.pb.h"

#include "store/layers/layer_blob.hpp"
#include "store/records/ref.hpp"

namespace kiln::store {

class record_table;
class record;
using record_ptr = std::shared_ptr<record>;

/// What a blob of a layer is for.
enum class blob_form : int {
  own = 0,        // a form of the layer as registries and images know it
  transport = 1,  // made for other nodes: the exact change, never exported
  archive = 2,    // the image tar, where the transport form is another change than the one exported
};

enum class record_kind : int { layer = 0, merge = 1, diff = 2 };

/// What a record's state is made of, as its parents tell it.
struct state_shape {
  std::size_t layers = 0;  // see flatten()
  /// Of a difference that shows layers of its upper side: how many of those, the lowest, it leaves out.
  std::optional<std::size_t> left_out = {};
  std::size_t nested = 0;  // how many states may have to be made one within the other
};

class record {
 public:
  record(std::shared_ptr<record_table> table, stored::Record data, std::vector<record_ptr> parents);
  ~record();
  record(const record&) = delete;
  record& operator=(const record&) = delete;

  // What never changes.
  const std::string id;
  const record_kind kind;
  const bool computed;       // of a diff: has a snapshot of its own even where layers could be reused
  const std::string name;    // it was acquired under, if it is or was a retained mutable
  const std::string origin;  // of a layer that came from another node: the record that first was it
  const bool rebased;        // such a layer was made on other layers than those below it
  /// Diff: lower, upper; either may be null (scratch).
  const std::vector<record_ptr>& parents() const noexcept { return parents_; }
  const state_shape shape;

  /// What is stored of it, for a look: `f` gets it, locks nothing and keeps no reference.
  template <class F>
  auto look(F f) const {
    std::lock_guard lock(mutex_);
    return f(static_cast<const stored::Record&>(data_));
  }
  stored::Record copy() const;
  /// Number of the snapshot on disk, 0 while there is none.
  std::uint64_t snapshot() const;
  bool is_mutable() const;
  /// Its blobs of one form, held.
  std::vector<layer_blob> blobs(blob_form form) const;

  /// A caller gets it.
  void count_use();
  /// It has this snapshot from now on, of a size that has to be measured.
  void set_snapshot(std::uint64_t number);
  /// The snapshot is another record's.
  void give_up_snapshot();
  /// The size of a snapshot that was measured when the record was `seen`; nothing when it is another by now.
  void set_size(const stored::Record& seen);
  /// It is not written any more; its name, if any, is given up.
  void end_writing();

  /// Whatever may bring its blobs: a peer first, which is near; null when nothing can.
  std::shared_ptr<blob_provider> provider() const;
  void add_provider(std::shared_ptr<blob_provider> p);
  /// The peer may bring what is not here; one that is known already is forgotten only where nothing is.
  void add_peer(const std::shared_ptr<blob_provider>& peer);

  /// The database never will have it: its snapshot goes with it.
  bool is_frozen() const noexcept { return is_frozen_; }
  void freeze();

  // Forms of it that mounts need (a layer normalized, a stack it is the top of as one), by key.
  record_ptr form(const std::string& key) const;
  void set_form(const std::string& key, const record_ptr& form);
  /// Whether its upper directory is as its normalized layer would be, once known.
  std::optional<bool> is_normalized() const;
  void set_normalized(bool is);
  /// Forms that its mounts need besides its parents live as long as it does.
  void pin(const record_ptr& form);

 private:
  friend class record_table;
  friend class materialize_lock;
  /// Call with `mutex_` held, or before anybody else knows it, whenever its blobs have changed.
  void hold_blobs();

  const std::shared_ptr<record_table> table_;
  std::vector<record_ptr> parents_;  // never changed but by the end
  std::atomic<bool> is_frozen_ = false;
  std::atomic<bool> is_discarded_ = false;  // the database forgot it, and what is queued of it is void

  mutable std::mutex mutex_;  // guards the rest
  stored::Record data_;
  std::map<std::string, blob_hold> held_;  // blobs it names, by digest
  std::shared_ptr<blob_provider> provider_;
  std::shared_ptr<blob_provider> peer_;  // the node it came from last
  bool is_stored_ = false;               // the database has it, or will have
  std::int64_t uses_ = 0;                // how often a caller was given it, and when last
  std::int64_t last_used_ns_ = 0;
  std::optional<bool> is_normalized_;
  std::map<std::string, std::weak_ptr<record>> forms_;
  std::vector<record_ptr> pins_;

  // One job at a time makes its snapshot, or a form of it: materialize_lock's.
  std::condition_variable_any made_;
  bool being_made_ = false;
};

// Conversions between what is stored and what callers see.
stored::Blob to_stored(const layer_blob& blob, blob_form form = blob_form::own);
layer_blob from_stored(const stored::Blob& blob);
std::vector<layer_blob> blobs_of(const stored::Record& r, blob_form form);
/// Takes over the measured size of a snapshot. One that came to the record while it was measured, or that
/// somebody wrote to, is not in the measure: then nothing, and the next look takes it again. Whether it did.
bool take_size(const stored::Record& seen, stored::Record& now);
/// Adds a form that it has not yet.
void add_blob(stored::Record& r, const stored::Blob& blob);

}  // namespace kiln::store
