#include "store/database/metadata_db.hpp"

#include <lmdb.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <spdlog/spdlog.h>

#include "base/digest.hpp"
#include "base/files.hpp"
#include "configs/store.hpp"

namespace kiln::store {

namespace {

constexpr std::size_t longest_part = 150;  // bytes; three parts and separators fit into LMDB's 511

error lmdb_error(int code, std::string_view what) {
  auto text = "metadata database: " + std::string(what);
  if (code > 0) return errno_error(code, text);
  auto kind = code == MDB_CORRUPTED || code == MDB_INVALID || code == MDB_PAGE_NOTFOUND ? errc::data_loss
              : code == MDB_MAP_FULL || code == MDB_TXN_FULL ? errc::resource_exhausted
                                                             : errc::internal;
  return make_error(kind, text + ": " + mdb_strerror(code));
}

constexpr int not_open = MDB_PANIC;  // as LMDB says when only opening it again helps
constexpr int own_failure = -1;      // an operation failed by itself; LMDB has no such code

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

/// Blocks for the whole of a file that is mapped and written: without them a full disk is a SIGBUS.
status allocate(const std::filesystem::path& file, std::int64_t bytes) {
  KILN_TRY(auto fd, open_file(file, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  if (::fallocate(fd.get(), 0, 0, bytes) == 0 || errno == EOPNOTSUPP || errno == ENOSYS) return {};
  return errno_error(errno, "allocate " + file.string());
}

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

status transaction::failed(int code, std::string_view what) {
  if (failure_ == 0) failure_ = code;
  return lmdb_error(code, what);
}

status transaction::put(table t, std::string_view key, std::string_view value) {
  auto k = to_val(key);
  auto v = to_val(value);
  int code = mdb_put(handle_, tables_[static_cast<unsigned>(t)], &k, &v, 0);
  if (code != 0) return failed(code, "put");
  return {};
}

status transaction::erase(table t, std::string_view key) {
  auto k = to_val(key);
  int code = mdb_del(handle_, tables_[static_cast<unsigned>(t)], &k, nullptr);
  if (code != 0 && code != MDB_NOTFOUND) return failed(code, "delete");
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
  bool is_posted = false;  // nobody waits for it
  bool done = false;
  bool refused = false;  // by the disk, or by LMDB for want of something: the operation itself did not fail
  status outcome;
};

result<std::unique_ptr<metadata_db>> metadata_db::open(const std::filesystem::path& file) {
  std::unique_ptr<metadata_db> db(new metadata_db);
  db->file_ = file;
  KILN_CHECK(db->open_environment());
  return db;
}

status metadata_db::open_environment() {
  KILN_CHECK(allocate(file_.string() + "-lock", limits::database_lock_bytes));
  if (int code = mdb_env_create(&env_); code != 0) return lmdb_error(code, "create");
  mdb_env_set_maxdbs(env_, static_cast<unsigned>(table::count));
  mdb_env_set_maxreaders(env_, limits::database_readers);
  mdb_env_set_mapsize(env_, limits::map_size);
  // MDB_NOTLS: read transactions belong to objects, not to threads. MDB_NORDAHEAD keeps residency small.
  if (int code =
          mdb_env_open(env_, file_.c_str(), MDB_NOSUBDIR | MDB_NOTLS | MDB_NOMETASYNC | MDB_NORDAHEAD, 0600);
      code != 0) {
    close_environment();
    return lmdb_error(code, "open " + file_.string());
  }
  int dead = 0;
  mdb_reader_check(env_, &dead);
  if (auto opened = open_tables(); !opened) {
    close_environment();
    return opened;
  }
  // What an earlier daemon allocated.
  int fd = -1;
  struct stat info {};
  if (mdb_env_get_fd(env_, &fd) == 0 && ::fstat(fd, &info) == 0)
    allocated_ = static_cast<std::uint64_t>(info.st_size);
  (void)make_room(room::cleaning);
  return {};
}

void metadata_db::close_environment() {
  if (env_) mdb_env_close(env_);
  env_ = nullptr;
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
  if (env_) mdb_env_sync(env_, 1);
  close_environment();
}

status metadata_db::read(const std::function<void(const transaction&)>& f) const {
  std::shared_lock lock(map_mutex_);
  if (!env_) return lmdb_error(not_open, "begin read");
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

void metadata_db::post(operation op) {
  auto p = std::make_shared<pending>();
  p->op = std::move(op);
  p->is_posted = true;
  std::lock_guard lock(queue_mutex_);
  queue_.push_back(std::move(p));
}

bool metadata_db::has_queued() {
  std::lock_guard lock(queue_mutex_);
  return committing_ || !queue_.empty();
}

// The first waiter who finds nobody committing commits for all who are queued.
status metadata_db::wait(const std::shared_ptr<pending>& p) {
  std::unique_lock lock(queue_mutex_);
  while (!p->done) {
    if (committing_) committed_.wait(lock);
    else commit_queue(lock);
  }
  return p->outcome;
}

/// Commits the head of the queue; false when the disk refused some of it. Called, and returns, with the lock
/// held and nobody committing.
bool metadata_db::commit_queue(std::unique_lock<std::mutex>& lock) {
  batch b;
  while (!queue_.empty() && b.size() < limits::writes_per_commit) {
    b.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  committing_ = true;
  lock.unlock();
  commit_batch(b, room::ordinary);
  for (auto& p : b)
    if (!p->is_posted || !p->refused) p->op = nullptr;  // what it holds must not die under the lock
  lock.lock();
  committing_ = false;
  status refusal;
  for (auto p = b.rbegin(); p != b.rend(); ++p) {
    bool refused = std::exchange((*p)->refused, false);
    if (refused) refusal = (*p)->outcome;
    if (refused && (*p)->is_posted) queue_.push_front(*p);
    else (*p)->done = true;
  }
  // Nobody waits behind what cannot be written now.
  if (!refusal.ok())
    std::erase_if(queue_, [&](const std::shared_ptr<pending>& p) {
      if (p->is_posted) return false;
      p->outcome = refusal;
      return p->done = true;
    });
  committed_.notify_all();
  return refusal.ok();
}

status metadata_db::clean(operation op) {
  std::unique_lock lock(queue_mutex_);
  while (committing_ || !queue_.empty()) {
    if (committing_) committed_.wait(lock);
    else if (!commit_queue(lock)) break;
  }
  auto p = std::make_shared<pending>();
  p->op = std::move(op);
  batch alone{p};
  committing_ = true;
  lock.unlock();
  commit_batch(alone, room::cleaning);
  lock.lock();
  committing_ = false;
  committed_.notify_all();
  return p->outcome;
}

/// Keeps the file longer than what is used; 0, or errno when that leaves too little for such a write.
int metadata_db::make_room(room r) {
  if (!can_reserve_) return 0;
  MDB_envinfo info;
  MDB_stat stat;
  int fd = -1;
  if (mdb_env_info(env_, &info) != 0 || mdb_env_stat(env_, &stat) != 0 || mdb_env_get_fd(env_, &fd) != 0)
    return 0;
  auto used = (std::uint64_t{info.me_last_pgno} + 1) * stat.ms_psize;
  if (allocated_ >= used + limits::database_reserve) return 0;
  auto wanted = used + limits::database_reserve + limits::database_reserve / 2;
  // Only what is new: a failed call takes back what it finds unwritten.
  auto from = std::min(allocated_, wanted);
  if (::fallocate(fd, 0, static_cast<off_t>(from), static_cast<off_t>(wanted - from)) == 0) {
    allocated_ = wanted;
    return 0;
  }
  if (errno == EOPNOTSUPP || errno == ENOSYS) can_reserve_ = false;
  int refusal = errno;
  if (!can_reserve_ || r == room::cleaning || allocated_ >= used + limits::database_reserve / 2) return 0;
  return free_pages() * stat.ms_psize >= limits::database_reserve / 2 ? 0 : refusal;
}

/// Pages within what is used that removals have left.
std::size_t metadata_db::free_pages() {
  constexpr MDB_dbi free_list = 0;  // LMDB's own table: transaction → how many pages, and which
  MDB_txn* txn = nullptr;
  if (mdb_txn_begin(env_, nullptr, MDB_RDONLY, &txn) != 0) return 0;
  std::size_t pages = 0;
  {
    cursor c(txn, free_list);
    MDB_val key, value;
    while (c.handle && mdb_cursor_get(c.handle, &key, &value, MDB_NEXT) == 0)
      if (std::size_t count = 0; value.mv_size >= sizeof count) {
        std::memcpy(&count, value.mv_data, sizeof count);
        pages += count;
      }
  }
  mdb_txn_abort(txn);
  return pages;
}

/// Runs all operations in one transaction; 0, a code of LMDB, errno, or own_failure.
int metadata_db::run_batch(batch& b, room r) {
  std::shared_lock lock(map_mutex_);
  if (!env_) return not_open;
  if (int code = make_room(r); code != 0) return code;
  transaction t;
  t.tables_ = tables_.data();
  if (int code = mdb_txn_begin(env_, nullptr, 0, &t.handle_); code != 0) return code;
  for (auto& p : b) {
    p->outcome = p->op(t);
    if (p->outcome.ok() && t.failure_ == 0) continue;
    mdb_txn_abort(t.handle_);
    return t.failure_ != 0 ? t.failure_ : own_failure;
  }
  return mdb_txn_commit(t.handle_);
}

void metadata_db::commit_batch(batch& b, room r) {
  bool reopened = false;
  while (true) {
    int code = run_batch(b, r);
    if (code == 0) return;
    if (code == own_failure && b.size() == 1) return;
    if (code == own_failure || (code == MDB_TXN_FULL && b.size() > 1)) {  // each for itself
      for (auto& p : b) {
        batch alone{p};
        commit_batch(alone, r);
      }
      return;
    }
    auto failure = status(lmdb_error(code, "commit"));
    bool again = false;
    if (code == MDB_MAP_FULL || code == MDB_MAP_RESIZED) {
      failure = grow();
      again = failure.ok();
    } else if (code == MDB_PANIC && !std::exchange(reopened, true)) {
      failure = reopen();
      again = failure.ok();
    }
    if (again) continue;
    for (auto& p : b) {
      p->outcome = failure;
      p->refused = true;
    }
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

/// After a write of its meta page failed LMDB refuses everything until it is opened anew.
status metadata_db::reopen() {
  std::unique_lock lock(map_mutex_);
  close_environment();
  auto opened = open_environment();
  if (opened.ok()) spdlog::warn("store: the metadata database was opened again after the disk had failed");
  return opened;
}

status metadata_db::sync() {
  std::shared_lock lock(map_mutex_);
  if (!env_) return lmdb_error(not_open, "sync");
  if (int code = mdb_env_sync(env_, 1); code != 0) return lmdb_error(code, "sync");
  return {};
}

}  // namespace kiln::store
