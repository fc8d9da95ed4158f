#include "store/records/record_table.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include <spdlog/spdlog.h>

#include "base/files.hpp"
#include "configs/store.hpp"
#include "store/files/file_facts.hpp"
#include "store/layers/layer_plan.hpp"
#include "store/records/record_rows.hpp"

namespace kiln::store {

namespace {

/// A pointer to the record that is counted for itself: it has no more copies than its user has, whoever else
/// has the record in hand for a moment, to look at it or to write it down.
record_ptr user_of(const record_ptr& r) { return {std::make_shared<record_ptr>(r), r.get()}; }

status nothing(transaction&) { return {}; }

}  // namespace

status record_table::start() {
  return flusher_.start("store", [this] { return flush(); });
}

void record_table::close() {
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(is_closed_, true)) return;
  }
  flusher_.stop();
  if (auto done = flush(); !done) spdlog::error("store: {}", done.error().message);
}

// ---------------------------------------------------------------- finding

record_ptr record_table::find_live(const std::string& id) {
  std::lock_guard lock(mutex_);
  auto found = live_.find(id);
  return found == live_.end() ? nullptr : found->second.lock();
}

std::unordered_map<std::string, record_ptr> record_table::live() {
  std::unordered_map<std::string, record_ptr> all;
  std::lock_guard lock(mutex_);
  for (const auto& [id, weak] : live_)
    if (auto r = weak.lock()) all.emplace(id, std::move(r));
  return all;
}

bool record_table::has_live() { return !live().empty(); }

bool record_table::has(const std::string& id) {
  if (find_live(id)) return true;
  bool is = false;
  auto seen =
      root_->database().read([&](const transaction& t) { is = t.get(table::records, id).has_value(); });
  return is && seen.ok();
}

result<record_table::written_record> record_table::read(const std::string& id) {
  written_record out;
  KILN_CHECK(root_->database().read([&](const transaction& t) {
    if (auto bytes = t.get(table::records, id)) out.bytes = *bytes;
  }));
  if (out.bytes.empty() || !out.data.ParseFromString(out.bytes) || out.data.deleted())
    return make_error(errc::not_found, "cache record " + id + " not found");
  return out;
}

/// A record of the database comes to memory, unless another thread was faster. Null when it is not as it was
/// read any more: others had it meanwhile, or it was removed.
result<record_ptr> record_table::enliven(written_record written, std::vector<record_ptr> parents) {
  auto fresh = std::make_shared<record>(shared_from_this(), std::move(written.data), std::move(parents));
  fresh->is_stored_ = true;
  std::lock_guard lock(mutex_);
  if (being_removed_.contains(fresh->id))
    return make_error(errc::not_found, "cache record " + fresh->id + " is being removed");
  auto& slot = live_[fresh->id];
  if (auto other = slot.lock()) return other;
  // While it is nobody's, all of it is in the database, and from here on nothing of it changes there but by
  // us.
  bool is_same = false;
  KILN_CHECK(root_->database().read(
      [&](const transaction& t) { is_same = t.get(table::records, fresh->id) == written.bytes; }));
  if (!is_same) {
    live_.erase(fresh->id);
    return record_ptr{};
  }
  slot = fresh;
  if (!fresh->data_.chain_id().empty()) live_chains_[fresh->data_.chain_id()] = fresh;
  return fresh;
}

result<record_ptr> record_table::load(const std::string& wanted) {
  struct frame {
    written_record written;
    std::vector<record_ptr> parents;  // those that are there
  };
  std::vector<frame> open;
  auto id = wanted;
  while (true) {
    auto there = find_live(id);
    if (!there) {
      auto data = read(id);
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

result<record_ptr> record_table::find_chain(const std::string& chain) {
  {
    std::lock_guard lock(mutex_);
    if (auto found = live_chains_.find(chain); found != live_chains_.end())
      if (auto r = found->second.lock()) return r;
  }
  std::string id;
  KILN_CHECK(root_->database().read([&](const transaction& t) {
    if (auto found = t.get(table::chains, key_part(chain))) id = *found;
  }));
  if (id.empty()) return record_ptr{};
  auto loaded = load(id);
  if (loaded.ok() || loaded.error().code != errc::not_found) return loaded;
  return record_ptr{};
}

// ---------------------------------------------------------------- making and changing

stored::Record record_table::fresh(record_kind kind, const record_options& options) {
  stored::Record r;
  r.set_id(new_id());
  r.set_kind(static_cast<int>(kind));
  r.set_description(options.description);
  r.set_type(static_cast<int>(options.type));
  r.set_created_at_ns(options.created_at_ns ? options.created_at_ns : now_ns());
  return r;
}

record_ptr record_table::admit(stored::Record data, std::vector<record_ptr> parents) {
  for (const auto& parent : parents) data.add_parents(parent ? parent->id : "");
  auto r = std::make_shared<record>(shared_from_this(), std::move(data), std::move(parents));
  r->count_use();
  std::lock_guard lock(mutex_);
  live_[r->id] = r;
  return r;
}

// Together, so that no flush can come between and leave the mark behind. The queue keeps the record alive: it
// is found in memory until the database has it.
void record_table::save(const record_ptr& r, bool unsynced) {
  stored::Record now;
  {
    std::lock_guard lock(r->mutex_);
    now = r->data_;
    r->is_stored_ = true;
  }
  std::unique_lock lock(mutex_);
  if (unsynced) unsynced_.insert(r->id);
  root_->database().post([this, keep = r, data = std::move(now), unsynced](transaction& t) -> status {
    if (keep->is_discarded_) return {};
    KILN_CHECK(put_record(t, data));
    if (unsynced) KILN_CHECK(t.put(table::unsynced, data.id(), root_->boot_id()));
    return {};
  });
  lock.unlock();
  flusher_.wake();
}

void record_table::modify(const record_ptr& r, const std::function<void(stored::Record&)>& change) {
  {
    std::lock_guard lock(r->mutex_);
    change(r->data_);
    r->hold_blobs();
    if (!r->is_stored_) return;
  }
  root_->database().post([keep = r, change](transaction& t) -> status {
    auto stored_record = get_record(t, keep->id);
    if (!stored_record) return {};
    change(*stored_record);
    return put_record(t, *stored_record);
  });
  flusher_.wake();
}

record_ptr record_table::claim_chain(const std::string& chain, const record_ptr& r) {
  std::lock_guard lock(mutex_);
  auto& slot = live_chains_[chain];
  if (auto other = slot.lock()) return other;
  slot = r;
  return nullptr;
}

result<record_table::added_layer> record_table::add_layer(const record_ptr& parent, stored::Record data,
                                                          std::shared_ptr<blob_provider> provider) {
  auto chain = data.chain_id();
  KILN_TRY(auto existing, find_chain(chain));
  if (!existing) {
    std::vector<record_ptr> parents;
    if (parent) parents.push_back(parent);
    KILN_CHECK(check_shape(shape_of(record_kind::layer, false, parents)));
    auto r = admit(std::move(data), std::move(parents));
    r->add_provider(provider);
    existing = claim_chain(chain, r);
    if (!existing) {
      save(r, false);
      return added_layer{std::move(r), true};
    }
  }
  existing->add_provider(std::move(provider));
  existing->count_use();
  return added_layer{std::move(existing), false};
}

status record_table::erase(const record_ptr& r) {
  r->is_discarded_ = true;  // what is queued of it is void
  auto erased = root_->database().clean([&](transaction& t) -> status {
    std::vector<std::string> ignored;  // what is being written has no blobs
    return erase_record(t, r->copy(), ignored);
  });
  if (!erased) {
    r->is_discarded_ = false;
    return erased;
  }
  {
    std::lock_guard lock(r->mutex_);
    r->data_.clear_name();
    r->is_stored_ = false;
  }
  std::lock_guard lock(mutex_);
  leases_.erase(r->name);
  unsynced_.erase(r->id);
  usage_.erase(r->id);
  return {};
}

// ---------------------------------------------------------------- names

result<std::string> record_table::find_named(const std::string& name) {
  std::string id;
  KILN_CHECK(root_->database().write(nothing));  // names queued so far
  KILN_CHECK(root_->database().read([&](const transaction& t) {
    if (auto found = t.get(table::names, key_part(name))) id = *found;
  }));
  return id;
}

bool record_table::is_leased(const std::string& name) {
  std::lock_guard lock(mutex_);
  auto found = leases_.find(name);
  return found != leases_.end() && !found->second.expired();
}

result<record_ptr> record_table::lease(const std::string& name, const record_ptr& r) {
  record_ptr taken;
  std::shared_ptr<metadata_db::pending> mark;
  {
    std::lock_guard lock(mutex_);
    auto& slot = leases_[name];
    if (!slot.expired()) return record_ptr{};
    slot = taken = user_of(r);
    unsynced_.insert(r->id);
    mark = root_->database().enqueue(
        [this, id = r->id](transaction& t) { return t.put(table::unsynced, id, root_->boot_id()); });
  }
  r->count_use();
  KILN_CHECK(root_->database().wait(mark));
  return taken;
}

record_ptr record_table::lease_new(const std::string& name, const record_ptr& r) {
  auto taken = user_of(r);
  std::unique_lock lock(mutex_);
  auto& slot = leases_[name];
  if (slot.expired()) {
    slot = taken;
    return taken;
  }
  lock.unlock();
  std::lock_guard of_record(r->mutex_);
  r->data_.set_name("");  // not ours: dies as an unnamed one
  return nullptr;
}

status record_table::end_lease(const std::string& name, const record_ptr& r) {
  KILN_CHECK(root_->database().write([key = key_part(name), id = r->id](transaction& t) -> status {
    auto found = t.get(table::names, key);
    return found && *found == id ? t.erase(table::names, key) : status{};
  }));
  std::lock_guard lock(mutex_);
  leases_.erase(name);
  return {};
}

// ---------------------------------------------------------------- removing

bool record_table::begin_removal(const std::string& id) {
  record_ptr alive;  // dies after the lock
  std::lock_guard lock(mutex_);
  if (auto found = live_.find(id); found != live_.end()) alive = found->second.lock();
  return !alive && being_removed_.insert(id).second;
}

void record_table::end_removal(std::span<const std::string> ids) {
  std::lock_guard lock(mutex_);
  for (const auto& id : ids) being_removed_.erase(id);
}

bool record_table::is_being_removed(const std::string& id) {
  std::lock_guard lock(mutex_);
  return being_removed_.contains(id);
}

void record_table::removed(std::span<const std::string> ids) {
  std::lock_guard lock(mutex_);
  for (const auto& id : ids) {
    unsynced_.erase(id);
    usage_.erase(id);
  }
}

void record_table::forget(record& r) noexcept {
  bool named = r.data_.is_mutable() && !r.data_.name().empty();
  bool abandoned = r.is_frozen_ || (r.data_.is_mutable() && !named);
  {
    std::lock_guard lock(mutex_);
    auto drop_expired = [](auto& map, const std::string& key) {
      auto found = map.find(key);
      if (found != map.end() && found->second.expired()) map.erase(found);
    };
    drop_expired(live_, r.id);
    if (!r.data_.chain_id().empty()) drop_expired(live_chains_, r.data_.chain_id());
    if (named) drop_expired(leases_, r.data_.name());
    if (r.uses_ > 0 && r.is_stored_ && !abandoned) {
      auto& change = usage_[r.id];
      change.count += r.uses_;
      change.last_used_at_ns = std::max(change.last_used_at_ns, named ? now_ns() : r.last_used_ns_);
      if (named) {
        change.size_changed = true;
        unsynced_.insert(r.id);
      }
    }
  }
  if (abandoned && r.data_.snapshot() != 0) root_->drop_snapshot(r.data_.snapshot());
  flusher_.wake();
}

// ---------------------------------------------------------------- making durable

void record_table::add_unsynced(std::vector<std::string> ids) {
  std::lock_guard lock(mutex_);
  unsynced_.insert(std::make_move_iterator(ids.begin()), std::make_move_iterator(ids.end()));
}

status record_table::flush_records() {
  KILN_CHECK(root_->database().write(nothing));
  std::unordered_map<std::string, usage_change> usage;
  {
    std::lock_guard lock(mutex_);
    usage.swap(usage_);
  }
  if (usage.empty()) return {};
  auto done = root_->database().write([&usage](transaction& t) -> status {
    for (const auto& [id, change] : usage) {
      auto r = get_record(t, id);
      if (!r) continue;
      r->set_usage_count(r->usage_count() + change.count);
      r->set_last_used_at_ns(std::max(r->last_used_at_ns(), change.last_used_at_ns));
      if (change.size_changed) r->set_snapshot_size(0);
      KILN_CHECK(t.put(table::records, id, r->SerializeAsString()));
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

status record_table::flush() {
  KILN_CHECK(flush_records());
  return sync_snapshots();
}

status record_table::sync_snapshots() {
  std::set<std::string> synced;
  {
    std::lock_guard lock(mutex_);
    synced = unsynced_;
  }
  if (synced.empty()) return {};
  KILN_TRY(auto fd, open_file(root_->path(), O_RDONLY | O_DIRECTORY));
  if (::syncfs(fd.get()) != 0) return errno_error(errno, "sync " + root_->path().string());
  std::vector<record_ptr> seen;  // so that none dies under the lock
  std::shared_ptr<metadata_db::pending> queued;
  {
    std::lock_guard lock(mutex_);
    // What is being written now (a retained mutable in use) stays marked until it is released.
    std::erase_if(synced, [&](const std::string& id) {
      auto found = live_.find(id);
      if (found == live_.end()) return false;
      seen.push_back(found->second.lock());
      return seen.back() && leases_.contains(seen.back()->name);
    });
    for (const auto& id : synced) unsynced_.erase(id);
    queued = root_->database().enqueue([synced](transaction& t) -> status {
      for (const auto& id : synced) KILN_CHECK(t.erase(table::unsynced, id));
      return {};
    });
  }
  auto done = root_->database().wait(queued);
  if (!done.ok()) {
    std::lock_guard lock(mutex_);
    unsynced_.insert(synced.begin(), synced.end());
  }
  return done;
}

}  // namespace kiln::store
