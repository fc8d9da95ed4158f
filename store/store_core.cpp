// The store as a whole: opening, sweeping, the background work, closing; and its small values.
#include "store/store_core.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include <spdlog/spdlog.h>

#include "base/files.hpp"
#include "base/thread.hpp"
#include "configs/store.hpp"
#include "store/database/cache_keys_db.hpp"
#include "store/files/confinement.hpp"
#include "store/files/mount.hpp"
#include "store/files/private_directory.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

namespace {
constexpr const char* window_name = "for-containers";  // where these see the snapshots
}

// ---------------------------------------------------------------- opening and closing

namespace {

constexpr std::string_view aside = "removed-";

/// What nobody needs may be large, and a start must not wait until it is gone: here it only loses its name,
/// in the same directory, as another one may be another mount.
status set_aside(const fs::path& path) {
  for (int n = 0;; ++n) {
    auto to = path.parent_path() / (std::string(aside) + path.filename().string() + "-" + std::to_string(n));
    if (::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return {};
    if (errno != EEXIST) return errno_error(errno, "setting aside " + path.string());
  }
}

/// What was set aside, by a start that was killed before it came to this, too.
void remove_set_aside(const fs::path& directory, const std::stop_token& stop) {
  auto opened = open_file(directory, O_RDONLY | O_DIRECTORY);
  auto names = opened.ok() ? list_names(opened->get()) : std::move(opened).error();
  if (!names.ok()) return spdlog::warn("store: {}", names.error().message);
  for (const auto& name : *names) {
    if (stop.stop_requested()) return;
    if (!name.starts_with(aside)) continue;
    if (auto gone = remove_tree(directory / name); !gone) spdlog::warn("store: {}", gone.error().message);
  }
}

}  // namespace

result<std::shared_ptr<store_core>> store_core::open(ref_store_options options) {
  std::shared_ptr<store_core> core(new store_core(options));
  KILN_CHECK(core->prepare(options));
  return core;
}

status store_core::lock_root() {
  auto path = root_ / "kilnd.lock";
  KILN_TRY(lock_, open_file(path, O_RDWR | O_CREAT, 0600));
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0)
    return errno == EWOULDBLOCK ? make_error(errc::failed_precondition, "could not lock " + path.string() +
                                                                            ", another instance is running")
                                : errno_error(errno, "could not lock " + path.string());
  return {};
}

/// Makes the state ours alone, and keeps us away from what builds put into it.
status store_core::claim_root(const ref_store_options& options) {
  auto root = private_directory::open(root_);
  if (!root.ok()) return std::move(root).error().with_context("state directory");
  root_ = root->path();
  KILN_CHECK(lock_root());
  KILN_TRY(auto leaked, unmount_below(root_));
  if (leaked > 0) spdlog::info("store: undid {} leaked mounts below {}", leaked, root_.string());
  for (auto name : {"transient", "blobs", "snapshots"}) {
    auto made = root->directory(name);
    if (!made.ok()) return std::move(made).error().with_context("state directory");
  }
  std::error_code unreadable;
  if (!fs::is_empty(root_ / "transient", unreadable)) {
    KILN_CHECK(set_aside(root_ / "transient"));
    KILN_CHECK(root->directory("transient"));
  }
  if (!options.confine) return {};
  KILN_CHECK(root->directory(window_name));
  return confine(root_, root_ / "snapshots", root_ / window_name);
}

status store_core::prepare(const ref_store_options& options) {
  KILN_CHECK(claim_root(options));
  if (auto text = read_file("/proc/sys/kernel/random/boot_id", 1024); text.ok()) boot_id_ = *text;
  KILN_TRY(blobs_, blob_store::open(root_ / "blobs"));
  KILN_TRY(database_, metadata_db::open(root_ / "metadata.mdb"));
  auto known = value("store", "snapshotter").value_or("");
  KILN_TRY(snapshots_, snapshots::open(root_ / "snapshots", options.snapshotter, known,
                                       options.confine ? root_ / window_name : fs::path()));
  if (snapshots_->known() != known)
    if (auto kept = set_value("store", "snapshotter", snapshots_->known()); !kept)
      spdlog::warn("store: {}", kept.error().message);
  keys_ = make_cache_keys(*database_);
  // Layers of one snapshotter mean nothing to another: what exists decides unless told otherwise.
  auto kind = std::string(to_string(snapshots_->kind()));
  auto layered = std::string(snapshots_->layered() ? "layered" : "native");
  if (auto before = value("store", "snapshots"); before && *before != layered) {
    KILN_TRY(auto made, snapshots_->list());
    if (!made.empty())
      return make_error(errc::failed_precondition, "the state in " + root_.string() + " was made by a " +
                                                       *before + " snapshotter and cannot be used with " +
                                                       kind);
    KILN_CHECK(set_value("store", "snapshots", layered));
  } else if (!before) {
    KILN_CHECK(set_value("store", "snapshots", layered));
  }
  KILN_CHECK(sweep());
  KILN_TRY(background_, thread::start("store", [this] { run_background(background_stop_.get_token()); }));
  return {};
}

status store_core::sweep() {
  KILN_CHECK(drop_torn_records());
  std::set<std::uint64_t> named;
  std::vector<std::string> broken;
  KILN_TRY(auto present, snapshots_->list());
  KILN_CHECK(database_->read([&](const transaction& t) {
    t.scan(table::snapshots, {}, [&](std::string_view number, std::string_view id) {
      auto n = std::strtoull(std::string(number).c_str(), nullptr, 10);
      named.insert(n);
      if (!std::binary_search(present.begin(), present.end(), n)) broken.emplace_back(id);
      return true;
    });
  }));
  if (!broken.empty()) {
    spdlog::warn("store: {} records have lost their snapshots; dropping them", broken.size());
    KILN_CHECK(remove_records(broken));
  }
  int swept = 0;
  for (auto number : present)
    if (!named.contains(number)) {
      if (auto removed = set_aside(snapshots_->directory_of(number)); !removed)
        spdlog::warn("store: {}", removed.error().message);
      else ++swept;
    }
  if (swept > 0) spdlog::info("store: swept {} snapshots that no record names", swept);
  KILN_CHECK(seal_retained());
  KILN_CHECK(sweep_results());
  return sweep_blobs();
}

/// Retained snapshots that were being written have the work directories of their mounts still.
status store_core::seal_retained() {
  std::vector<std::uint64_t> numbers;
  KILN_CHECK(database_->read([&](const transaction& t) {
    t.scan(table::names, {}, [&](auto, std::string_view id) {
      auto bytes = t.get(table::records, id);
      stored::Record r;
      if (bytes && r.ParseFromArray(bytes->data(), static_cast<int>(bytes->size())) && r.snapshot() != 0)
        numbers.push_back(r.snapshot());
      return true;
    });
  }));
  for (auto number : numbers) KILN_CHECK(snapshots_->seal(number));
  return {};
}

/// Cache keys that lead to records that are not there: a record goes with its keys, but a key may have been
/// saved whose record was not.
status store_core::sweep_results() {
  std::vector<std::string> absent;
  KILN_CHECK(database_->read([&](const transaction& t) {
    std::string last;
    t.scan(table::by_result, {}, [&](std::string_view key, auto) {
      std::string id(key.substr(0, key.find('\0')));
      if (id == last) return true;
      last = id;
      if (!t.get(table::records, id)) absent.push_back(id);
      return true;
    });
  }));
  for (const auto& id : absent)
    KILN_CHECK(database_->clean([&id](transaction& t) { return release_result(t, id); }));
  if (!absent.empty()) spdlog::info("store: swept the cache keys of {} results that are gone", absent.size());
  return {};
}

/// Records whose snapshots were not yet durable when the power went, with everything built on them.
status store_core::drop_torn_records() {
  std::vector<std::string> torn;
  KILN_CHECK(database_->read([&](const transaction& t) {
    t.scan(table::unsynced, {}, [&](std::string_view id, std::string_view boot) {
      if (boot == boot_id_) unsynced_.emplace(id);
      else torn.emplace_back(id);
      return true;
    });
  }));
  if (torn.empty()) return {};
  spdlog::warn("store: dropping {} snapshots that may not have reached the disk before the machine went down",
               torn.size());
  return remove_records(torn);
}

void store_core::close() {
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(closed_, true)) return;
  }
  background_stop_.request_stop();
  wake_background();
  if (background_.joinable()) background_.join();
  if (auto done = flush(); !done) spdlog::error("store: {}", done.error().message);
}

store_core::~store_core() {
  if (database_) close();
}

// ---------------------------------------------------------------- background work

void store_core::wake_background() {
  std::lock_guard lock(mutex_);
  work_queued_ = true;
  background_wake_.notify_one();
}

void store_core::run_background(std::stop_token stop) {
  auto clearing = thread::start("store-clear", [this, stop] {
    for (const auto& directory : {root_, root_ / "snapshots"}) remove_set_aside(directory, stop);
  });
  if (!clearing.ok()) spdlog::warn("store: {}", clearing.error().message);  // the next start sees it again
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    if (!background_wake_.wait(lock, stop, [this] { return work_queued_; })) return;
    // Let the storm pass: several changes, one flush.
    background_wake_.wait_for(lock, stop, limits::sync_delay, [] { return false; });
    if (stop.stop_requested()) return;
    work_queued_ = false;
    lock.unlock();
    auto done = flush();
    if (!done) spdlog::error("store: {}", done.error().message);
    lock.lock();
    if (done.ok()) continue;
    work_queued_ = true;  // again, when there may be room
    background_wake_.wait_for(lock, stop, limits::flush_retry, [] { return false; });
  }
}

/// Commits the changes of records that nobody has waited for.
status store_core::flush_records() {
  KILN_CHECK(database_->write([](transaction&) { return status{}; }));
  std::unordered_map<std::string, usage_change> usage;
  {
    std::lock_guard lock(mutex_);
    usage.swap(usage_);
  }
  if (usage.empty()) return {};
  auto done = database_->write([&usage](transaction& t) -> status {
    for (const auto& [id, change] : usage) {
      auto bytes = t.get(table::records, id);
      stored::Record r;
      if (!bytes || !r.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()))) continue;
      r.set_usage_count(r.usage_count() + change.count);
      r.set_last_used_at_ns(std::max(r.last_used_at_ns(), change.last_used_at_ns));
      if (change.size_changed) r.set_snapshot_size(0);
      KILN_CHECK(t.put(table::records, id, r.SerializeAsString()));
    }
    return {};
  });
  if (done.ok()) return done;
  std::lock_guard lock(mutex_);
  for (const auto& [id, change] : usage) {
    auto& kept = usage_[id];
    kept.count += change.count;
    kept.last_used_at_ns = std::max(kept.last_used_at_ns, change.last_used_at_ns);
    kept.size_changed = kept.size_changed || change.size_changed;
  }
  return done;
}

/// Commits what is queued, makes snapshots durable and tells the database so, writes usage counts.
status store_core::flush() {
  KILN_CHECK(flush_records());
  std::set<std::string> synced;
  {
    std::lock_guard lock(mutex_);
    synced = unsynced_;
  }
  if (synced.empty()) return {};
  KILN_TRY(auto fd, open_file(root_, O_RDONLY | O_DIRECTORY));
  if (::syncfs(fd.get()) != 0) return errno_error(errno, "sync " + root_.string());
  std::vector<record_ptr> seen;  // so that none dies under the lock
  std::shared_ptr<metadata_db::pending> queued;
  {
    std::lock_guard lock(mutex_);
    // What is being written now (a retained mutable in use) stays marked until it is released.
    std::erase_if(synced, [&](const std::string& id) {
      auto found = live_.find(id);
      if (found == live_.end()) return false;
      seen.push_back(found->second.lock());
      return seen.back() && live_names_.contains(seen.back()->name);
    });
    for (const auto& id : synced) unsynced_.erase(id);
    queued = database_->enqueue([synced](transaction& t) -> status {
      for (const auto& id : synced) KILN_CHECK(t.erase(table::unsynced, id));
      return {};
    });
  }
  auto done = database_->wait(queued);
  if (!done.ok()) {
    std::lock_guard lock(mutex_);
    unsynced_.insert(synced.begin(), synced.end());
  }
  return done;
}

// ---------------------------------------------------------------- small values

namespace {

std::string encode_value(std::string_view key, std::string_view value) {
  std::string text(key);
  text += '\0';
  text += value;
  return text;
}

std::string_view value_of(std::string_view stored_value, std::size_t key_size) {
  return stored_value.size() > key_size ? stored_value.substr(key_size + 1) : std::string_view{};
}

}  // namespace

std::optional<std::string> store_core::metadata(std::string_view record_id, std::string_view key) {
  std::optional<std::string> found;
  if (database_->has_queued())
    if (auto done = database_->write([](transaction&) { return status{}; }); !done)
      spdlog::error("store: {}", done.error().message);
  auto seen = database_->read([&](const transaction& t) {
    if (auto v = t.get(table::metadata, table_key(record_id, key))) found = value_of(*v, key.size());
  });
  if (!seen) spdlog::error("store: {}", seen.error().message);
  return found;
}

status store_core::set_metadata(std::string_view record_id, std::string_view key, std::string_view value) {
  return database_->write([k = table_key(record_id, key), v = encode_value(key, value),
                           id = std::string(record_id)](transaction& t) -> status {
    if (!t.get(table::records, id)) return make_error(errc::not_found, "cache record " + id + " not found");
    return t.put(table::metadata, k, v);
  });
}

std::optional<std::string> store_core::value(std::string_view bucket, std::string_view key) {
  std::optional<std::string> found;
  auto seen = database_->read([&](const transaction& t) {
    if (auto v = t.get(table::values, table_key(bucket, key))) found = value_of(*v, key.size());
  });
  if (!seen) spdlog::error("store: {}", seen.error().message);
  return found;
}

status store_core::set_value(std::string_view bucket, std::string_view key, std::string_view value) {
  if (key.find('\0') != std::string_view::npos)
    return make_error(errc::invalid_argument, "a key may not contain NUL");
  return database_->write([k = table_key(bucket, key), v = encode_value(key, value)](transaction& t) {
    return t.put(table::values, k, v);
  });
}

status store_core::erase_value(std::string_view bucket, std::string_view key) {
  return database_->clean([k = table_key(bucket, key)](transaction& t) { return t.erase(table::values, k); });
}

std::vector<std::pair<std::string, std::string>> store_core::values(std::string_view bucket) {
  std::vector<std::pair<std::string, std::string>> all;
  auto seen = database_->read([&](const transaction& t) {
    t.scan(table::values, key_part(bucket) + '\0', [&](auto, std::string_view v) {
      auto end = v.find('\0');
      all.emplace_back(v.substr(0, end),
                       end == std::string_view::npos ? std::string_view{} : v.substr(end + 1));
      return true;
    });
  });
  if (!seen) spdlog::error("store: {}", seen.error().message);
  std::sort(all.begin(), all.end());
  return all;
}

result<fs::path> store_core::temporary_directory(std::string_view purpose) {
  std::string name;
  for (char c : purpose.substr(0, 40)) name += std::isalnum(static_cast<unsigned char>(c)) ? c : '-';
  auto path = root_ / "transient" / (name + "-" + new_id());
  if (::mkdir(path.c_str(), 0700) != 0) return errno_error(errno, "mkdir " + path.string());
  return path;
}

}  // namespace kiln::store
