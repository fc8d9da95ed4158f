#include "store/store_core.hpp"

#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include <spdlog/spdlog.h>

#include "configs/store.hpp"
#include "store/cache_keys_db.hpp"
#include "store/mount.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view doomed_blobs_bucket = "store.doomed-blobs";

std::string child_key(std::string_view parent, std::string_view child) { return table_key(parent, child); }

}  // namespace

// ---------------------------------------------------------------- record

record::record(std::shared_ptr<store_core> owner, stored::Record stored_record,
               std::vector<std::shared_ptr<record>> parent_records)
    : core(std::move(owner)),
      id(stored_record.id()),
      kind_(stored_record.kind()),
      computed(stored_record.computed()),
      name(stored_record.name()),
      parents(std::move(parent_records)),
      data(std::move(stored_record)) {}

record::~record() { core->forget(*this); }

std::uint64_t record::snapshot() {
  std::lock_guard lock(mutex);
  return data.snapshot();
}

namespace {

/// The peer first, which is near; then wherever else the blob can come from.
class either_provider final : public blob_provider {
 public:
  either_provider(std::shared_ptr<blob_provider> near, std::shared_ptr<blob_provider> far)
      : near_(std::move(near)), far_(std::move(far)) {}
  status fetch(const descriptor& blob, blob_store& into, const job_context& job) override {
    auto first = near_->fetch(blob, into, job);
    if (first.ok()) return first;
    KILN_CHECK(job.check());
    auto second = far_->fetch(blob, into, job);
    return second.ok() ? std::move(second) : std::move(first);
  }

 private:
  std::shared_ptr<blob_provider> near_, far_;
};

}  // namespace

std::shared_ptr<blob_provider> record::any_provider() const {
  if (!peer || !provider) return peer ? peer : provider;
  return std::make_shared<either_provider>(peer, provider);
}

void record::take_provider(std::shared_ptr<blob_provider> p) {
  if (!p) return;
  (p->is_peer() ? peer : provider) = std::move(p);
}

stored::Record record::copy() {
  std::lock_guard lock(mutex);
  return data;
}

// ---------------------------------------------------------------- opening and closing

result<std::shared_ptr<store_core>> store_core::open(ref_store_options options) {
  auto wanted = options.snapshotter;
  std::shared_ptr<store_core> core(new store_core(std::move(options)));
  KILN_CHECK(core->prepare(wanted));
  return core;
}

status store_core::lock_root() {
  auto path = root_ / "kilnd.lock";
  KILN_TRY(lock_, open_file(path, O_RDWR | O_CREAT, 0600));
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0)
    return make_error(errc::failed_precondition,
                      "could not lock " + path.string() + ", another instance is running");
  return {};
}

status store_core::prepare(snapshotter_kind wanted) {
  KILN_CHECK(make_directories(root_));
  std::error_code failed;
  root_ = fs::canonical(root_, failed);
  if (failed) return errno_error(failed.value(), root_.string());
  KILN_CHECK(lock_root());
  if (auto text = read_file("/proc/sys/kernel/random/boot_id", 1024); text.ok()) boot_id_ = *text;
  KILN_TRY(auto leaked, unmount_below(root_));
  if (leaked > 0) spdlog::info("store: undid {} leaked mounts below {}", leaked, root_.string());
  KILN_CHECK(make_directories(root_ / "transient", 0711));
  KILN_CHECK(empty_directory(root_ / "transient"));
  KILN_TRY(blobs_, blob_store::open(root_ / "blobs"));
  KILN_TRY(database_, metadata_db::open(root_ / "metadata.mdb"));
  KILN_TRY(snapshots_, snapshots::open(root_ / "snapshots", wanted));
  keys_ = make_cache_keys(*database_);
  // Layers of one snapshotter mean nothing to another: what exists decides unless told otherwise.
  auto kind = std::string(to_string(snapshots_->kind()));
  auto layered = std::string(snapshots_->layered() ? "layered" : "native");
  if (auto before = value("store", "snapshots"); before && *before != layered) {
    if (!snapshots_->list().empty())
      return make_error(errc::failed_precondition, "the state in " + root_.string() + " was made by a " +
                                                       *before + " snapshotter and cannot be used with " +
                                                       kind);
    KILN_CHECK(set_value("store", "snapshots", layered));
  } else if (!before) {
    KILN_CHECK(set_value("store", "snapshots", layered));
  }
  KILN_CHECK(sweep());
  background_ = std::jthread([this](std::stop_token stop) { run_background(stop); });
  return {};
}

status store_core::sweep() {
  KILN_CHECK(drop_torn_records());
  std::set<std::uint64_t> named;
  std::vector<std::string> broken;
  auto present = snapshots_->list();
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
      if (auto removed = snapshots_->remove(number); !removed)
        spdlog::warn("store: {}", removed.error().message);
      else ++swept;
    }
  if (swept > 0) spdlog::info("store: swept {} snapshots that no record names", swept);
  return sweep_blobs();
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

/// Ends removals of blobs that a crash cut short.
status store_core::sweep_blobs() {
  std::vector<std::string> digests;
  for (auto& [digest, ignored] : values(doomed_blobs_bucket)) digests.push_back(digest);
  if (!digests.empty()) finish_blobs(digests);
  return {};
}

void store_core::close() {
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(closed_, true)) return;
  }
  background_.request_stop();
  wake_background();
  if (background_.joinable()) background_.join();
  if (auto done = flush(); !done) spdlog::error("store: {}", done.error().message);
}

store_core::~store_core() {
  if (database_) close();
}

// ---------------------------------------------------------------- records

record_ptr store_core::find_live(const std::string& id) {
  std::lock_guard lock(mutex_);
  auto found = live_.find(id);
  return found == live_.end() ? nullptr : found->second.lock();
}

/// The record, from memory or the database, with all that it stands on.
result<record_ptr> store_core::load(const std::string& id, int depth) {
  if (auto r = find_live(id)) return r;
  if (depth > limits::tree_depth) return make_error(errc::data_loss, "records are nested too deeply");
  stored::Record stored_record;
  bool found = false;
  KILN_CHECK(database_->read([&](const transaction& t) {
    auto bytes = t.get(table::records, id);
    found = bytes && stored_record.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()));
  }));
  if (!found || stored_record.deleted()) {
    if (auto r = find_live(id)) return r;  // another thread was faster
    return make_error(errc::not_found, "cache record " + id + " not found");
  }
  std::vector<record_ptr> parents;
  for (const auto& parent : stored_record.parents()) {
    if (parent.empty()) {
      parents.push_back(nullptr);
      continue;
    }
    KILN_TRY(auto p, load(parent, depth + 1));
    parents.push_back(std::move(p));
  }
  auto fresh = std::make_shared<record>(shared_from_this(), std::move(stored_record), std::move(parents));
  fresh->is_stored = true;
  std::lock_guard lock(mutex_);
  if (doomed_.contains(id)) return make_error(errc::not_found, "cache record " + id + " is being removed");
  auto& slot = live_[id];
  if (auto other = slot.lock()) return other;
  slot = fresh;
  if (!fresh->data.chain_id().empty()) live_chains_[fresh->data.chain_id()] = fresh;
  return fresh;
}

stored::Record store_core::fresh(record_kind kind, const record_options& options) {
  stored::Record r;
  r.set_id(new_id());
  r.set_kind(static_cast<int>(kind));
  r.set_description(options.description);
  r.set_type(static_cast<int>(options.type));
  r.set_created_at_ns(options.created_at_ns ? options.created_at_ns : now_ns());
  return r;
}

record_ptr store_core::admit(stored::Record stored_record, std::vector<record_ptr> parents) {
  for (const auto& parent : parents) stored_record.add_parents(parent ? parent->id : "");
  auto r = std::make_shared<record>(shared_from_this(), std::move(stored_record), std::move(parents));
  r->count_use();
  std::lock_guard lock(mutex_);
  live_[r->id] = r;
  return r;
}

status store_core::put_record(transaction& t, const stored::Record& r) {
  KILN_CHECK(t.put(table::records, r.id(), r.SerializeAsString()));
  for (const auto& parent : r.parents())
    if (!parent.empty()) KILN_CHECK(t.put(table::children, child_key(parent, r.id()), {}));
  if (!r.chain_id().empty()) KILN_CHECK(t.put(table::chains, key_part(r.chain_id()), r.id()));
  if (!r.name().empty()) KILN_CHECK(t.put(table::names, key_part(r.name()), r.id()));
  if (r.snapshot() != 0) KILN_CHECK(t.put(table::snapshots, std::to_string(r.snapshot()), r.id()));
  for (const auto& blob : r.blobs())
    KILN_CHECK(t.put(table::blob_refs, table_key(blob.digest(), r.id()), {}));
  return {};
}

status store_core::erase_record(transaction& t, const stored::Record& r,
                                std::vector<std::string>& orphaned_blobs) {
  KILN_CHECK(t.erase(table::records, r.id()));
  for (const auto& parent : r.parents())
    if (!parent.empty()) KILN_CHECK(t.erase(table::children, child_key(parent, r.id())));
  auto erase_if_ours = [&](table which, const std::string& key) -> status {
    auto found = t.get(which, key);
    if (found && *found == r.id()) return t.erase(which, key);
    return {};
  };
  if (!r.chain_id().empty()) KILN_CHECK(erase_if_ours(table::chains, key_part(r.chain_id())));
  if (!r.name().empty()) KILN_CHECK(erase_if_ours(table::names, key_part(r.name())));
  if (r.snapshot() != 0) KILN_CHECK(t.erase(table::snapshots, std::to_string(r.snapshot())));
  KILN_CHECK(t.erase(table::unsynced, r.id()));
  for (const auto& blob : r.blobs()) {
    KILN_CHECK(t.erase(table::blob_refs, table_key(blob.digest(), r.id())));
    if (!t.any(table::blob_refs, key_part(blob.digest()) + '\0')) {
      KILN_CHECK(t.put(table::values, table_key(doomed_blobs_bucket, blob.digest()),
                       blob.digest() + std::string(1, '\0')));
      orphaned_blobs.push_back(blob.digest());
    }
  }
  std::vector<std::string> keys;
  t.scan(table::metadata, key_part(r.id()) + '\0', [&](std::string_view key, auto) {
    keys.emplace_back(key);
    return true;
  });
  for (const auto& key : keys) KILN_CHECK(t.erase(table::metadata, key));
  return {};
}

/// Queues the record as it is now. `unsynced`: its snapshot has changed and is not yet durable.
void store_core::store_record(const record_ptr& r, bool unsynced) {
  stored::Record snapshot_of_record;
  {
    std::lock_guard lock(r->mutex);
    snapshot_of_record = r->data;
    r->is_stored = true;
  }
  // Together, so that no flush can come between and leave the mark behind. The queue keeps the record
  // alive: it is found in memory until the database has it.
  std::unique_lock lock(mutex_);
  if (unsynced) unsynced_.insert(r->id);
  database_->enqueue(
      [this, keep = r, stored_record = std::move(snapshot_of_record), unsynced](transaction& t) -> status {
        KILN_CHECK(put_record(t, stored_record));
        if (unsynced) KILN_CHECK(t.put(table::unsynced, stored_record.id(), boot_id_));
        return {};
      });
  lock.unlock();
  wake_background();
}

/// Changes a record in memory and, if it is there, in the database. `change` may run several times.
void store_core::modify(const record_ptr& r, const std::function<void(stored::Record&)>& change) {
  {
    std::lock_guard lock(r->mutex);
    change(r->data);
    if (!r->is_stored) return;
  }
  database_->enqueue([keep = r, change](transaction& t) -> status {
    auto bytes = t.get(table::records, keep->id);
    stored::Record stored_record;
    if (!bytes || !stored_record.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()))) return {};
    change(stored_record);
    return put_record(t, stored_record);
  });
  wake_background();
}

/// Removes records, first from the database, durably, then from disk. All that stands on them goes too,
/// unless `alone`: then those that something stands on stay.
status store_core::remove_records(const std::vector<std::string>& ids, bool alone) {
  std::vector<std::uint64_t> numbers;
  std::vector<std::string> removed, orphaned_blobs;
  KILN_CHECK(database_->write([&](transaction& t) -> status {
    numbers.clear();
    removed.clear();
    orphaned_blobs.clear();
    std::vector<std::string> pending = ids;
    while (!pending.empty()) {
      auto id = std::move(pending.back());
      pending.pop_back();
      auto bytes = t.get(table::records, id);
      if (!bytes) {
        KILN_CHECK(t.erase(table::unsynced, id));
        continue;
      }
      stored::Record r;
      if (!r.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()))) r.set_id(id);
      std::vector<std::string> children;
      t.scan(table::children, key_part(id) + '\0', [&](std::string_view key, auto) {
        children.emplace_back(key.substr(key.find('\0') + 1));
        return true;
      });
      if (alone && !children.empty()) continue;
      pending.insert(pending.end(), children.begin(), children.end());
      KILN_CHECK(erase_record(t, r, orphaned_blobs));
      KILN_CHECK(release_result(t, id));
      if (r.snapshot() != 0) numbers.push_back(r.snapshot());
      removed.push_back(id);
    }
    return {};
  }));
  // Before bytes go, the removal must be proof against a power cut.
  KILN_CHECK(database_->sync());
  {
    std::lock_guard lock(mutex_);
    for (const auto& id : removed) {
      unsynced_.erase(id);
      usage_.erase(id);
    }
  }
  status outcome;
  for (auto number : numbers)
    if (auto gone = snapshots_->remove(number); !gone) {
      spdlog::warn("store: {}", gone.error().message);
      outcome = gone;
    }
  finish_blobs(orphaned_blobs);
  return outcome;
}

/// Removes blobs that no record names any more, unless one was stored again meanwhile.
void store_core::finish_blobs(const std::vector<std::string>& digests) {
  if (digests.empty()) return;
  for (const auto& text : digests) {
    bool needed = false;
    if (auto seen = database_->read(
            [&](const transaction& t) { needed = t.any(table::blob_refs, key_part(text) + '\0'); });
        !seen)
      return;
    auto d = digest::parse(text);
    if (needed || !d) continue;
    if (auto gone = blobs_->remove(*d); !gone) spdlog::warn("store: {}", gone.error().message);
  }
  auto cleared = database_->write([&](transaction& t) -> status {
    for (const auto& text : digests) KILN_CHECK(t.erase(table::values, table_key(doomed_blobs_bucket, text)));
    return {};
  });
  if (!cleared) spdlog::warn("store: {}", cleared.error().message);
}

// The last handle went. Locks nothing of the record: nobody else can see it.
void store_core::forget(record& r) noexcept {
  bool named = r.data.is_mutable() && !r.data.name().empty();
  bool abandoned = r.data.is_mutable() && !named;
  {
    std::lock_guard lock(mutex_);
    auto drop_expired = [](auto& map, const std::string& key) {
      auto found = map.find(key);
      if (found != map.end() && found->second.expired()) map.erase(found);
    };
    drop_expired(live_, r.id);
    if (!r.data.chain_id().empty()) drop_expired(live_chains_, r.data.chain_id());
    if (named) drop_expired(live_names_, r.data.name());
    if (r.uses > 0 && r.is_stored && !abandoned) {
      auto& change = usage_[r.id];
      change.count += r.uses;
      change.last_used_at_ns = std::max(change.last_used_at_ns, named ? now_ns() : r.last_used_ns);
      if (named) {
        change.size_changed = true;
        unsynced_.insert(r.id);
      }
    }
  }
  if (abandoned && r.data.snapshot() != 0)
    if (auto gone = snapshots_->remove(r.data.snapshot()); !gone)
      spdlog::warn("store: {}", gone.error().message);
  wake_background();
}

// ---------------------------------------------------------------- background work

void store_core::wake_background() {
  std::lock_guard lock(mutex_);
  work_queued_ = true;
  background_wake_.notify_one();
}

void store_core::run_background(std::stop_token stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    if (!background_wake_.wait(lock, stop, [this] { return work_queued_; })) return;
    // Let the storm pass: several changes, one flush.
    background_wake_.wait_for(lock, stop, limits::sync_delay, [] { return false; });
    if (stop.stop_requested()) return;
    work_queued_ = false;
    lock.unlock();
    if (auto done = flush(); !done) spdlog::error("store: {}", done.error().message);
    lock.lock();
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
  return database_->write([&usage](transaction& t) -> status {
    for (const auto& [id, change] : usage) {
      auto bytes = t.get(table::records, id);
      stored::Record r;
      if (!bytes || !r.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()))) continue;
      r.set_usage_count(r.usage_count() + change.count);
      r.set_last_used_at_ns(std::max(r.last_used_at_ns(), change.last_used_at_ns));
      if (change.size_changed) r.set_size(0);
      KILN_CHECK(t.put(table::records, id, r.SerializeAsString()));
    }
    return {};
  });
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
  return database_->wait(queued);
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
  return database_->write([k = table_key(bucket, key)](transaction& t) { return t.erase(table::values, k); });
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
