#include "store/metadata_db.hpp"

#include <lmdb.h>

#include <cerrno>

#include "configs/store.hpp"
#include "messages/digest.hpp"

namespace kiln::store {

namespace {

constexpr std::size_t longest_part = 150;  // bytes; three parts and separators fit into LMDB's 511

error lmdb_error(int code, std::string_view what) {
  auto kind = code == MDB_CORRUPTED || code == MDB_INVALID || code == MDB_PAGE_NOTFOUND ? errc::data_loss
              : code == ENOSPC || code == MDB_MAP_FULL ? errc::resource_exhausted
                                                       : errc::internal;
  return make_error(kind, "metadata database: " + std::string(what) + ": " + mdb_strerror(code));
}

MDB_val to_val(std::string_view text) { return {text.size(), const_cast<char*>(text.data())}; }
std::string_view to_view(const MDB_val& v) { return {static_cast<const char*>(v.mv_data), v.mv_size}; }

struct cursor {
  MDB_cursor* handle = nullptr;
  cursor(MDB_txn* txn, unsigned dbi) { mdb_cursor_open(txn, dbi, &handle); }
  ~cursor() {
    if (handle) mdb_cursor_close(handle);
  }
  cursor(const cursor&) = delete;
  cursor& operator=(const cursor&) = delete;
};

/// Thrown out of an operation by MDB_MAP_FULL, through the status it returns.
constexpr std::string_view map_full_mark = "metadata database: map full";

}  // namespace

std::string key_part(std::string_view text) {
  if (text.size() <= longest_part && text.find('\0') == std::string_view::npos) return std::string(text);
  return "h:" + std::string(sha256(text).hex());
}

std::string table_key(std::string_view first, std::string_view second) {
  auto key = key_part(first);
  key += '\0';
  key += key_part(second);
  return key;
}

std::optional<std::string_view> transaction::get(table t, std::string_view key) const {
  auto k = to_val(key);
  MDB_val v;
  if (key.empty() || mdb_get(handle_, tables_[static_cast<unsigned>(t)], &k, &v) != 0) return std::nullopt;
  return to_view(v);
}

status transaction::put(table t, std::string_view key, std::string_view value) {
  auto k = to_val(key);
  auto v = to_val(value);
  int code = mdb_put(handle_, tables_[static_cast<unsigned>(t)], &k, &v, 0);
  if (code == MDB_MAP_FULL) return make_error(errc::resource_exhausted, std::string(map_full_mark));
  if (code != 0) return lmdb_error(code, "put");
  return {};
}

status transaction::erase(table t, std::string_view key) {
  auto k = to_val(key);
  int code = mdb_del(handle_, tables_[static_cast<unsigned>(t)], &k, nullptr);
  if (code == MDB_MAP_FULL) return make_error(errc::resource_exhausted, std::string(map_full_mark));
  if (code != 0 && code != MDB_NOTFOUND) return lmdb_error(code, "delete");
  return {};
}

void transaction::scan(table t, std::string_view prefix,
                       const std::function<bool(std::string_view, std::string_view)>& visit) const {
  cursor c(handle_, tables_[static_cast<unsigned>(t)]);
  if (!c.handle) return;
  auto k = to_val(prefix);
  MDB_val v;
  for (int code = mdb_cursor_get(c.handle, &k, &v, prefix.empty() ? MDB_FIRST : MDB_SET_RANGE); code == 0;
       code = mdb_cursor_get(c.handle, &k, &v, MDB_NEXT)) {
    auto key = to_view(k);
    if (key.substr(0, prefix.size()) != prefix || !visit(key, to_view(v))) return;
  }
}

std::size_t transaction::count(table t) const {
  MDB_stat stat{};
  return mdb_stat(handle_, tables_[static_cast<unsigned>(t)], &stat) == 0 ? stat.ms_entries : 0;
}

bool transaction::any(table t, std::string_view prefix) const {
  bool found = false;
  scan(t, prefix, [&found](auto, auto) {
    found = true;
    return false;
  });
  return found;
}

struct metadata_db::pending {
  operation op;
  bool done = false;
  status outcome;
};

result<std::unique_ptr<metadata_db>> metadata_db::open(const std::filesystem::path& file) {
  std::unique_ptr<metadata_db> db(new metadata_db);
  if (int code = mdb_env_create(&db->env_); code != 0) return lmdb_error(code, "create");
  mdb_env_set_maxdbs(db->env_, static_cast<unsigned>(table::count));
  mdb_env_set_maxreaders(db->env_, limits::database_readers);
  mdb_env_set_mapsize(db->env_, limits::map_size);
  // MDB_NOTLS: read transactions belong to objects, not to threads. MDB_NORDAHEAD keeps residency small.
  if (int code = mdb_env_open(db->env_, file.c_str(),
                              MDB_NOSUBDIR | MDB_NOTLS | MDB_NOMETASYNC | MDB_NORDAHEAD, 0600);
      code != 0)
    return lmdb_error(code, "open " + file.string());
  int dead = 0;
  mdb_reader_check(db->env_, &dead);
  KILN_CHECK(db->open_tables());
  return db;
}

status metadata_db::open_tables() {
  static constexpr const char* names[] = {"records",   "children",  "chains",   "names",  "unsynced",
                                          "snapshots", "blob_refs", "metadata", "values", "links",
                                          "backlinks", "results",   "by_result"};
  static_assert(std::size(names) == static_cast<std::size_t>(table::count));
  MDB_txn* txn = nullptr;
  if (int code = mdb_txn_begin(env_, nullptr, 0, &txn); code != 0) return lmdb_error(code, "begin");
  for (std::size_t i = 0; i < std::size(names); ++i)
    if (int code = mdb_dbi_open(txn, names[i], MDB_CREATE, &tables_[i]); code != 0) {
      mdb_txn_abort(txn);
      return lmdb_error(code, std::string("open table ") + names[i]);
    }
  if (int code = mdb_txn_commit(txn); code != 0) return lmdb_error(code, "commit");
  return {};
}

metadata_db::~metadata_db() {
  if (!env_) return;
  mdb_env_sync(env_, 1);
  mdb_env_close(env_);
}

status metadata_db::read(const std::function<void(const transaction&)>& f) const {
  std::shared_lock lock(map_mutex_);
  transaction t;
  t.tables_ = tables_.data();
  if (int code = mdb_txn_begin(env_, nullptr, MDB_RDONLY, &t.handle_); code != 0)
    return lmdb_error(code, "begin read");
  struct closer {
    MDB_txn* txn;
    ~closer() { mdb_txn_abort(txn); }
  } close_it{t.handle_};
  f(t);
  return {};
}

std::shared_ptr<metadata_db::pending> metadata_db::enqueue(operation op) {
  auto p = std::make_shared<pending>();
  p->op = std::move(op);
  std::lock_guard lock(queue_mutex_);
  queue_.push_back(p);
  return p;
}

bool metadata_db::has_queued() {
  std::lock_guard lock(queue_mutex_);
  return committing_ || !queue_.empty();
}

// The first waiter who finds nobody committing commits for all who are queued.
status metadata_db::wait(const std::shared_ptr<pending>& p) {
  std::unique_lock lock(queue_mutex_);
  while (!p->done) {
    if (committing_) {
      committed_.wait(lock);
      continue;
    }
    std::deque<std::shared_ptr<pending>> batch;
    while (!queue_.empty() && batch.size() < limits::writes_per_commit) {
      batch.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
    committing_ = true;
    lock.unlock();
    commit_batch(batch);
    for (auto& b : batch) b->op = nullptr;  // what it holds must not die under the lock
    lock.lock();
    committing_ = false;
    for (auto& b : batch) b->done = true;
    committed_.notify_all();
  }
  return p->outcome;
}

/// Runs all operations in one transaction; 0, an LMDB code, or -1 when an operation failed by itself.
int metadata_db::run_batch(std::deque<std::shared_ptr<pending>>& batch) {
  std::shared_lock lock(map_mutex_);
  transaction t;
  t.tables_ = tables_.data();
  if (int code = mdb_txn_begin(env_, nullptr, 0, &t.handle_); code != 0) return code;
  for (auto& b : batch) {
    b->outcome = b->op(t);
    if (b->outcome.ok()) continue;
    mdb_txn_abort(t.handle_);
    return b->outcome.error().message.find(map_full_mark) != std::string::npos ? MDB_MAP_FULL : -1;
  }
  return mdb_txn_commit(t.handle_);
}

void metadata_db::commit_batch(std::deque<std::shared_ptr<pending>>& batch) {
  while (true) {
    int code = run_batch(batch);
    if (code == 0) return;
    if (code == MDB_MAP_FULL || code == MDB_MAP_RESIZED) {
      if (auto grown = grow(); !grown) {
        for (auto& b : batch) b->outcome = grown;
        return;
      }
      continue;
    }
    if (code == -1 && batch.size() > 1) {  // one of them failed: each for itself
      for (auto& b : batch) {
        std::deque<std::shared_ptr<pending>> alone{b};
        commit_batch(alone);
      }
      return;
    }
    if (code != -1)
      for (auto& b : batch) b->outcome = lmdb_error(code, "commit");
    return;
  }
}

status metadata_db::grow() {
  std::unique_lock lock(map_mutex_);
  MDB_envinfo info;
  mdb_env_info(env_, &info);
  auto size = info.me_mapsize * 2;
  if (size > limits::map_size_max) return lmdb_error(MDB_MAP_FULL, "the limit of its size is reached");
  if (int code = mdb_env_set_mapsize(env_, size); code != 0) return lmdb_error(code, "grow");
  return {};
}

status metadata_db::sync() {
  KILN_CHECK(write([](transaction&) { return status{}; }));
  std::shared_lock lock(map_mutex_);
  if (int code = mdb_env_sync(env_, 1); code != 0) return lmdb_error(code, "sync");
  return {};
}

}  // namespace kiln::store
