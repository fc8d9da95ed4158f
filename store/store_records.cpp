// Records in memory and in the database: loading, storing, changing, removing and forgetting them, with the
// blobs that no record names any more.
#include <algorithm>
#include <iterator>

#include <spdlog/spdlog.h>

#include "configs/store.hpp"
#include "store/database/cache_keys_db.hpp"
#include "store/store_core.hpp"

namespace kiln::store {

namespace {

constexpr std::string_view doomed_blobs_bucket = "store.doomed-blobs";

std::string child_key(std::string_view parent, std::string_view child) { return table_key(parent, child); }

}  // namespace

// ---------------------------------------------------------------- one record

record::record(std::shared_ptr<store_core> owner, stored::Record stored_record,
               std::vector<std::shared_ptr<record>> parent_records)
    : core(std::move(owner)),
      id(stored_record.id()),
      kind_(stored_record.kind()),
      computed(stored_record.computed()),
      name(stored_record.name()),
      parents(std::move(parent_records)),
      shape(store_core::shape_of(kind(), computed, parents)),
      data(std::move(stored_record)) {
  hold_blobs();
}

record::~record() {
  core->forget(*this);
  // However many stand on each other, they go one after the other and not one within the other.
  thread_local std::vector<record_ptr>* going = nullptr;
  if (going != nullptr) {
    std::move(parents.begin(), parents.end(), std::back_inserter(*going));
    return;
  }
  std::vector<record_ptr> mine = std::move(parents);
  going = &mine;
  while (!mine.empty()) {
    auto next = std::move(mine.back());
    mine.pop_back();
    next.reset();
  }
  going = nullptr;
}

std::uint64_t record::snapshot() {
  std::lock_guard lock(mutex);
  return data.snapshot();
}

void record::hold_blobs() {
  auto before = std::move(blobs);
  blobs.clear();
  for (const auto& blob : data.blobs()) {
    auto known = before.find(blob.digest());
    blobs[blob.digest()] =
        known != before.end() ? known->second : core->blobs().hold(digest::trusted(blob.digest()));
  }
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

// ---------------------------------------------------------------- all of them

record_ptr store_core::find_live(const std::string& id) {
  std::lock_guard lock(mutex_);
  auto found = live_.find(id);
  return found == live_.end() ? nullptr : found->second.lock();
}

result<store_core::written_record> store_core::read_record(const std::string& id) {
  written_record out;
  KILN_CHECK(database_->read([&](const transaction& t) {
    if (auto bytes = t.get(table::records, id)) out.bytes = *bytes;
  }));
  if (out.bytes.empty() || !out.data.ParseFromString(out.bytes) || out.data.deleted())
    return make_error(errc::not_found, "cache record " + id + " not found");
  return out;
}

/// A record of the database comes to memory, unless another thread was faster. Null when it is not as it was
/// read any more: others had it meanwhile, or it was removed.
result<record_ptr> store_core::enliven(written_record written, std::vector<record_ptr> parents) {
  auto fresh = std::make_shared<record>(shared_from_this(), std::move(written.data), std::move(parents));
  fresh->is_stored = true;
  std::lock_guard lock(mutex_);
  if (deleting_.contains(fresh->id))
    return make_error(errc::not_found, "cache record " + fresh->id + " is being removed");
  auto& slot = live_[fresh->id];
  if (auto other = slot.lock()) return other;
  // While it is nobody's, all of it is in the database, and from here on nothing of it changes there but by
  // us.
  bool is_same = false;
  KILN_CHECK(database_->read(
      [&](const transaction& t) { is_same = t.get(table::records, fresh->id) == written.bytes; }));
  if (!is_same) {
    live_.erase(fresh->id);
    return record_ptr{};
  }
  slot = fresh;
  if (!fresh->data.chain_id().empty()) live_chains_[fresh->data.chain_id()] = fresh;
  return fresh;
}

/// The record, from memory or the database, with all that it stands on: that comes first, however much it is.
result<record_ptr> store_core::load(const std::string& wanted) {
  struct frame {
    written_record written;
    std::vector<record_ptr> parents;  // those that are there
  };
  std::vector<frame> open;
  auto id = wanted;
  while (true) {
    auto there = find_live(id);
    if (!there) {
      auto data = read_record(id);
      if (!data.ok()) {
        there = find_live(id);  // another thread was faster
        if (!there) return std::move(data).error();
      } else if (open.size() >= limits::records_deep) {
        return make_error(errc::data_loss, "records are nested too deeply");
      } else {
        open.push_back({*std::move(data), {}});
      }
    }
    // What is there is a parent of the innermost; that one is there once all its parents are.
    while (true) {
      if (there) {
        if (open.empty()) return there;
        open.back().parents.push_back(std::move(there));
      }
      auto& inner = open.back();
      const auto& data = inner.written.data;
      while (inner.parents.size() < static_cast<std::size_t>(data.parents_size()) &&
             data.parents(static_cast<int>(inner.parents.size())).empty())
        inner.parents.push_back(nullptr);
      if (inner.parents.size() < static_cast<std::size_t>(data.parents_size())) {
        id = data.parents(static_cast<int>(inner.parents.size()));
        break;
      }
      auto done = std::move(inner);
      open.pop_back();
      id = done.written.data.id();
      KILN_TRY(there, enliven(std::move(done.written), std::move(done.parents)));
      if (!there) break;  // once more
    }
  }
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
  database_->post(
      [this, keep = r, stored_record = std::move(snapshot_of_record), unsynced](transaction& t) -> status {
        if (keep->is_discarded) return {};
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
    r->hold_blobs();
    if (!r->is_stored) return;
  }
  database_->post([keep = r, change](transaction& t) -> status {
    auto bytes = t.get(table::records, keep->id);
    stored::Record stored_record;
    if (!bytes || !stored_record.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()))) return {};
    change(stored_record);
    return put_record(t, stored_record);
  });
  wake_background();
}

/// Removes records, first from the database, durably, then from disk. All that stands on them goes too,
/// unless `alone`: then those that something stands on stay. `gone` is told of those that went, some at a
/// time.
status store_core::remove_records(const std::vector<std::string>& ids, bool alone,
                                  const std::function<void(const std::vector<std::string>&)>& gone) {
  status outcome;
  auto at_once = limits::removed_at_once;
  for (std::size_t at = 0; at < ids.size();) {
    auto n = std::min(at_once, ids.size() - at);
    removal r;
    auto done = forget_records({ids.data() + at, n}, alone, r);
    if (!done && done.error().code == errc::resource_exhausted && n > 1) {
      at_once = n / 2;  // what is kept in reserve is small
      continue;
    }
    KILN_CHECK(std::move(done));
    at += n;
    {
      std::lock_guard lock(mutex_);
      for (const auto& id : r.ids) {
        unsynced_.erase(id);
        usage_.erase(id);
      }
    }
    for (auto number : r.snapshots)
      if (auto removed = snapshots_->remove(number); !removed && outcome.ok()) outcome = std::move(removed);
    if (auto removed = finish_blobs(r.blobs); !removed && outcome.ok()) outcome = std::move(removed);
    if (gone) gone(r.ids);
  }
  return outcome;
}

/// The part of remove_records() in the database; proof against a power cut when it returns.
status store_core::forget_records(std::span<const std::string> ids, bool alone, removal& out) {
  KILN_CHECK(database_->clean([&](transaction& t) -> status {
    out = {};
    std::vector<std::string> pending(ids.begin(), ids.end());
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
      KILN_CHECK(erase_record(t, r, out.blobs));
      KILN_CHECK(release_result(t, id));
      if (r.snapshot() != 0) out.snapshots.push_back(r.snapshot());
      out.ids.push_back(id);
    }
    return {};
  }));
  return database_->sync();
}

// Records in memory hold what they name, and are in memory until the database has them: so one look at that,
// while nobody can come to hold the blob, sees everybody who names it.
result<bool> store_core::remove_blob(const digest& d, const std::function<bool(const blob_info&)>& unneeded) {
  return blobs_->remove_unneeded(d, [&](const blob_info& blob) -> result<bool> {
    bool named = false;
    KILN_CHECK(database_->read(
        [&](const transaction& t) { named = t.any(table::blob_refs, key_part(d.str()) + '\0'); }));
    return !named && (!unneeded || unneeded(blob));
  });
}

/// Removes blobs that no record names any more. One that somebody holds stays: it will be named, or told by
/// `du`.
status store_core::finish_blobs(const std::vector<std::string>& digests) {
  if (digests.empty()) return {};
  status outcome;
  for (const auto& text : digests) {
    auto d = digest::parse(text);
    if (!d) continue;
    if (auto gone = remove_blob(*d); !gone && outcome.ok()) outcome = std::move(gone).error();
  }
  KILN_CHECK(database_->clean([&](transaction& t) -> status {
    for (const auto& text : digests) KILN_CHECK(t.erase(table::values, table_key(doomed_blobs_bucket, text)));
    return {};
  }));
  return outcome;
}

/// Ends removals of blobs that a crash cut short.
status store_core::sweep_blobs() {
  std::vector<std::string> digests;
  for (auto& [digest, ignored] : values(doomed_blobs_bucket)) digests.push_back(digest);
  return finish_blobs(digests);
}

// The last handle went. Locks nothing of the record: nobody else can see it.
void store_core::forget(record& r) noexcept {
  bool named = r.data.is_mutable() && !r.data.name().empty();
  bool abandoned = r.is_frozen || (r.data.is_mutable() && !named);
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

}  // namespace kiln::store
