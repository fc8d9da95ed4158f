// The store's one database: named tables of byte strings in LMDB, durable transactions with group commit.
//
// Durability. A commit is written by pwrite and made durable by fdatasync before the call returns;
// the database is copy-on-write with two meta pages, so neither a killed process nor a power cut can
// corrupt it. MDB_NOMETASYNC leaves the small meta page to the next commit or sync(): a killed process
// loses nothing, a power cut may undo the last commit as a whole. Whoever deletes bytes that an undone
// commit would name again calls sync() first.
//
// A full disk. Removing needs pages too, for LMDB copies what it changes. So the file is always some
// megabytes longer than what is used, allocated (limits::database_reserve): other writes may take half of
// that when the file system gives no more, clean() all of it. What it frees is used again, so small removals
// go on for ever. Thread-safe. Knows nothing of records.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>

#include "base/result.hpp"

struct MDB_env;
struct MDB_txn;

namespace kiln::store {

/// The tables. Keys are at most 500 bytes.
enum class table : unsigned {
  records,    // id → StoredRecord
  children,   // parent id, NUL, child id → empty
  chains,     // chain id → record id
  names,      // name of a retained mutable (hashed) → record id
  unsynced,   // record id → boot id under which its snapshot was committed
  snapshots,  // snapshot number, decimal → record id
  blob_refs,  // blob digest, NUL, record id → empty
  metadata,   // record id, NUL, key (hashed when long) → key, NUL, value
  values,     // bucket, NUL, key (hashed when long) → key, NUL, value
  links,      // cache keys: parent, NUL, link, NUL, child
  backlinks,  // cache keys: child, NUL, link, NUL, parent
  results,    // cache keys: key, NUL, result
  by_result,  // cache keys: result, NUL, key
  count
};

/// One transaction. What get() returns is valid until the next write in, or the end of, the transaction.
class transaction {
 public:
  std::optional<std::string_view> get(table t, std::string_view key) const;
  status put(table t, std::string_view key, std::string_view value);
  /// Absent is fine.
  status erase(table t, std::string_view key);
  /// Entries whose key starts with the prefix, in order; `visit` returns false to stop. The visitor may
  /// not write in this transaction.
  void scan(table t, std::string_view prefix,
            const std::function<bool(std::string_view key, std::string_view value)>& visit) const;
  bool any(table t, std::string_view prefix) const;
  /// Entries of a table.
  std::size_t count(table t) const;

 private:
  friend class metadata_db;
  status failed(int code, std::string_view what);
  MDB_txn* handle_ = nullptr;
  const unsigned* tables_ = nullptr;
  int failure_ = 0;  // LMDB's code of the first write that failed
};

class metadata_db {
 public:
  static result<std::unique_ptr<metadata_db>> open(const std::filesystem::path& file);
  ~metadata_db();
  metadata_db(const metadata_db&) = delete;
  metadata_db& operator=(const metadata_db&) = delete;

  /// Runs `f` on a consistent view. `f` may not write and may not start another transaction.
  status read(const std::function<void(const transaction&)>& f) const;

  /// One write in the queue of the next commit.
  struct pending;
  using operation = std::function<status(transaction&)>;
  /// Queues an operation; operations are committed in the order in which they are queued, many at once.
  /// It may be run several times (when the map must grow), so it must have no other effects.
  std::shared_ptr<pending> enqueue(operation op);
  /// Waits until it is committed and durable; its own error, or the database's.
  status wait(const std::shared_ptr<pending>& p);
  /// Queues an operation that nobody waits for. One that the disk refuses stays queued, at its place, for the
  /// next commit.
  void post(operation op);
  bool has_queued();
  /// enqueue and wait.
  status write(operation op) { return wait(enqueue(std::move(op))); }
  /// A write that frees space, after all that is queued (unless the disk refuses that). It is alone in its
  /// transaction and may use what is kept in reserve; resource_exhausted when it changes more than fits
  /// there.
  status clean(operation op);
  /// Makes even the last commit proof against power cuts.
  status sync();

 private:
  enum class room { ordinary, cleaning };
  using batch = std::deque<std::shared_ptr<pending>>;

  metadata_db() = default;
  status open_environment();
  status open_tables();
  void close_environment();
  bool commit_queue(std::unique_lock<std::mutex>& lock);
  void commit_batch(batch& b, room r);
  int run_batch(batch& b, room r);
  int make_room(room r);
  std::size_t free_pages();
  status grow();
  status reopen();

  std::filesystem::path file_;
  MDB_env* env_ = nullptr;  // null: it failed, and could not be opened again yet
  std::array<unsigned, static_cast<std::size_t>(table::count)> tables_{};
  mutable std::shared_mutex map_mutex_;  // shared: a transaction is open; exclusive: the map is resized
  std::uint64_t allocated_ = 0;          // bytes of the file that have blocks; the committing thread's
  bool can_reserve_ = true;              // the file system allocates ahead
  std::mutex queue_mutex_;
  std::condition_variable committed_;
  batch queue_;
  bool committing_ = false;
};

/// A key made of two parts; a long second part is replaced by its SHA-256.
std::string table_key(std::string_view first, std::string_view second);
/// The text itself when short, else "h:" and its SHA-256: fits into a key.
std::string key_part(std::string_view text);

}  // namespace kiln::store
