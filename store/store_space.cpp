// What the store's records cost, and getting it back.
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <iterator>
#include <unordered_map>

#include <spdlog/spdlog.h>

#include "configs/store.hpp"
#include "messages/filter.hpp"
#include "store/store_core.hpp"

namespace kiln::store {

namespace {

/// The fields that filters know. Source: BuildKit cache/manager.go, adaptUsageInfo.
filter::lookup fields_of(const usage_record& u) {
  return [&u](std::span<const std::string> path) -> std::optional<std::string> {
    auto present = [](bool is) { return is ? std::optional<std::string>("") : std::nullopt; };
    auto text = [](std::string s) {
      return s.empty() ? std::nullopt : std::optional<std::string>(std::move(s));
    };
    const auto& name = path[0];
    if (name == "id") return text(u.id);
    if (name == "description") return text(u.description);
    if (name == "type") return std::string(to_string(u.type));
    if (name == "inuse") return present(u.in_use);
    if (name == "mutable") return present(u.is_mutable);
    if (name == "immutable") return present(!u.is_mutable);
    if (name == "shared") return present(u.shared);
    if (name == "private") return present(!u.shared);
    if (name == "parents") {
      std::string joined;
      for (const auto& parent : u.parents) joined += (joined.empty() ? "" : ";") + parent;
      return text(std::move(joined));
    }
    return std::nullopt;
  };
}

/// How much may stay: as much as max_used_space, less if too little is free, never less than reserved.
/// Source: features.md G; BuildKit cache/manager.go, calculateKeepBytes.
std::int64_t bytes_to_keep(const prune_options& o, std::int64_t total, std::int64_t free) {
  if (o.max_used_space == 0 && o.reserved_space == 0 && o.min_free_space == 0) return 0;
  auto keep = o.max_used_space;
  auto excess = o.min_free_space - free;
  if (excess > 0) keep = keep == 0 ? total - excess : std::min(keep, total - excess);
  else if (o.min_free_space != 0 && keep == 0) keep = total;
  return std::max(keep, o.reserved_space);
}

/// Orders candidates by how long ago and how seldom they were used, both as ranks of equal weight.
void sort_by_worth(std::vector<const usage_record*>& candidates) {
  struct ranked {
    const usage_record* record;
    double age = 0, count = 0;
  };
  std::vector<ranked> all;
  for (const auto* c : candidates) all.push_back({c});
  auto last_used = [](const ranked& r) { return r.record->last_used_at_ns.value_or(0); };
  std::stable_sort(all.begin(), all.end(), [&](auto& a, auto& b) { return last_used(a) < last_used(b); });
  double age = 1;
  std::int64_t previous = 0;
  for (auto& r : all) {
    if (last_used(r) > previous) {
      previous = last_used(r);
      ++age;
    }
    r.age = age;
  }
  std::stable_sort(all.begin(), all.end(),
                   [](auto& a, auto& b) { return a.record->usage_count < b.record->usage_count; });
  double count = 1;
  std::int64_t uses = 0;
  for (auto& r : all) {
    if (r.record->usage_count != uses) {
      uses = r.record->usage_count;
      ++count;
    }
    r.count = count;
  }
  std::stable_sort(all.begin(), all.end(), [&](auto& a, auto& b) {
    return a.age / age + a.count / count < b.age / age + b.count / count;
  });
  for (std::size_t i = 0; i < all.size(); ++i) candidates[i] = all[i].record;
}

/// Whether it belongs to somebody who says so.
bool is_kept(const blob_info& blob) {
  return std::any_of(blob.labels.begin(), blob.labels.end(),
                     [](const auto& label) { return label.first.rfind("kiln.keep", 0) == 0; });
}

/// Whether somebody who works may be about to name it.
bool is_recent(const blob_info& blob) {
  return blob.created_at_ns >= now_ns() - std::chrono::nanoseconds(limits::unreferenced_blob_age).count();
}

/// The text of a document: manifests, indexes, configs and statements are JSON, layers never are. Of one that
/// is too large to be a manifest the beginning; nothing of other content.
std::optional<std::string> document_text(const blob_store& blobs, const digest& d) {
  auto in = blobs.read(d);
  char first = '\0';
  auto got = in.ok() ? (*in)->read({&first, 1}) : result<std::size_t>(std::move(in).error());
  if (!got.ok() || *got == 0 || first != '{') return std::nullopt;
  std::string text(1, first);
  char part[64 * 1024];
  while (text.size() < limits::document_bytes) {
    got = (*in)->read(part);
    if (!got.ok() || *got == 0) break;
    text.append(part, *got);
  }
  return text;
}

/// Every digest that a text mentions.
void add_mentioned(std::string_view text, std::unordered_set<std::string>& out) {
  constexpr std::string_view algorithm = "sha256:";
  constexpr std::size_t hex = 64;
  for (auto at = text.find(algorithm); at != std::string_view::npos; at = text.find(algorithm, at + 1))
    if (at + algorithm.size() + hex <= text.size()) out.emplace(text.substr(at, algorithm.size() + hex));
}

/// Documents that nothing names: no record, no label, no value or metadata, and no document that is itself
/// named or recent. None that is recent, since whoever works may be about to name it.
result<std::vector<digest>> unnamed_documents(const metadata_db& database, const blob_store& blobs) {
  std::unordered_map<std::string, std::string> texts;  // of those that may go
  std::unordered_set<std::string> mentioned;
  auto all = blobs.list();
  KILN_CHECK(database.read([&](const transaction& t) {
    for (auto named : {table::values, table::metadata})
      t.scan(named, {}, [&](auto, std::string_view value) {
        add_mentioned(value, mentioned);
        return true;
      });
    for (const auto& blob : all) {
      if (is_kept(blob) || t.any(table::blob_refs, key_part(blob.digest.str()) + '\0')) continue;
      auto text = document_text(blobs, blob.digest);
      if (!text) continue;
      if (is_recent(blob)) add_mentioned(*text, mentioned);
      else texts.emplace(blob.digest.str(), *std::move(text));
    }
  }));
  for (bool more = true; more;) {
    more = false;
    for (auto it = texts.begin(); it != texts.end();) {
      if (!mentioned.contains(it->first)) {
        ++it;
        continue;
      }
      add_mentioned(it->second, mentioned);
      it = texts.erase(it);
      more = true;
    }
  }
  std::vector<digest> unnamed;
  for (const auto& [name, text] : texts) unnamed.push_back(digest::trusted(name));
  return unnamed;
}

/// The digest of content that no record names: its id.
std::optional<digest> loose_id(const std::string& id) {
  auto d = digest::parse(id);
  if (!d.ok()) return std::nullopt;
  return *std::move(d);
}

}  // namespace

usage_record usage_of(const stored::Record& r) {
  usage_record u;
  u.id = r.id();
  u.is_mutable = r.is_mutable();
  u.size = std::max<std::int64_t>(0, r.snapshot_size() - 1);
  u.created_at_ns = r.created_at_ns();
  if (r.last_used_at_ns() != 0) u.last_used_at_ns = r.last_used_at_ns();
  u.usage_count = r.usage_count();
  u.description = r.description();
  u.type = static_cast<record_type>(r.type());
  for (const auto& parent : r.parents())
    if (!parent.empty()) u.parents.push_back(parent);
  return u;
}

/// Bytes of the record's directory. Takes a walk, and is the same ever after.
std::int64_t store_core::measure_snapshot(const stored::Record& r) {
  if (r.snapshot() == 0) return 0;
  bool own_only = r.kind() == static_cast<int>(record_kind::diff);  // shares those of layers
  auto size = allocated_bytes(snapshots_->fs_of(r.snapshot()), own_only);
  return size.ok() ? *size : 0;
}

/// Bytes of the record's blobs that are in the store now. They come and go by many ways (fetched, pushed,
/// named by another record, dropped as corrupt), and a look costs little: it is not remembered.
std::int64_t store_core::measure_blobs(const stored::Record& r) {
  std::int64_t bytes = 0;
  for (const auto& blob : r.blobs())
    if (auto size = allocated_bytes(blobs_->path_of(digest::trusted(blob.digest()))); size.ok())
      bytes += *size;
  return bytes;
}

std::optional<std::int64_t> store_core::own_size(const record_ptr& r) {
  if (!r) return 0;
  auto data = r->copy();
  if (data.snapshot() == 0) return std::nullopt;
  if (data.snapshot_size() == 0) {
    data.set_snapshot_size(measure_snapshot(data) + 1);
    std::lock_guard lock(r->mutex);
    if (r->data.snapshot() == data.snapshot()) r->data.set_snapshot_size(data.snapshot_size());
  }
  return data.snapshot_size() - 1 + measure_blobs(data);
}

/// All records with their sizes, which are remembered, and the content that no record names. What the disk
/// does not let us write down is no reason not to tell.
result<std::vector<usage_record>> store_core::all_usage() {
  if (auto flushed = flush_records(); !flushed) spdlog::warn("store: {}", flushed.error().message);
  std::vector<stored::Record> records;
  KILN_CHECK(database_->read([&](const transaction& t) {
    t.scan(table::records, {}, [&](auto, std::string_view bytes) {
      stored::Record r;
      if (r.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) records.push_back(std::move(r));
      return true;
    });
  }));
  std::unordered_map<std::string, record_ptr> live;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [id, weak] : live_)
      if (auto r = weak.lock()) live.emplace(id, std::move(r));
    std::erase_if(records, [this](const auto& r) { return deleting_.contains(r.id()); });
  }
  // Snapshots being written are in memory only.
  std::unordered_set<std::string> stored_ids;
  for (const auto& r : records) stored_ids.insert(r.id());
  for (const auto& [id, r] : live)
    if (auto data = r->copy(); !stored_ids.contains(id) && data.snapshot() != 0)
      records.push_back(std::move(data));

  std::vector<usage_record> usage;
  std::vector<stored::Record> measured;
  for (auto& r : records) {
    auto found = live.find(r.id());
    bool in_use = found != live.end();
    if (in_use && r.is_mutable()) {
      r.set_snapshot_size(0);  // it changes while we look
    } else if (r.snapshot_size() == 0) {
      r.set_snapshot_size(measure_snapshot(r) + 1);
      measured.push_back(r);
    }
    auto u = usage_of(r);
    u.size += measure_blobs(r);
    u.in_use = in_use;
    usage.push_back(std::move(u));
  }
  if (!measured.empty()) {
    // A snapshot that came to a record while it was measured, or that somebody wrote to, is not in the
    // measure: then the next look takes it again.
    auto take = [](const stored::Record& seen, stored::Record& now) {
      bool was_used = now.is_mutable() && now.usage_count() != seen.usage_count();
      if (now.snapshot() != seen.snapshot() || was_used) return false;
      now.set_snapshot_size(seen.snapshot_size());
      return true;
    };
    for (const auto& seen : measured)
      if (auto found = live.find(seen.id()); found != live.end()) {
        std::lock_guard lock(found->second->mutex);
        take(seen, found->second->data);
      }
    auto kept = database_->write([&](transaction& t) -> status {
      for (const auto& seen : measured) {
        auto bytes = t.get(table::records, seen.id());
        stored::Record r;
        if (bytes && r.ParseFromArray(bytes->data(), static_cast<int>(bytes->size())) && take(seen, r))
          KILN_CHECK(t.put(table::records, r.id(), r.SerializeAsString()));
      }
      return {};
    });
    if (!kept) spdlog::warn("store: {}", kept.error().message);
  }
  KILN_TRY(auto loose, loose_usage(live));
  usage.insert(usage.end(), std::make_move_iterator(loose.begin()), std::make_move_iterator(loose.end()));
  return usage;
}

/// Blobs that no record names: those that were not brought to their end, whole ones whose record never came,
/// and layers that only the manifest of a stored image names. Documents are not told. While somebody works
/// recent ones may be named yet, and what lives may have been refused by the database so far.
result<std::vector<usage_record>> store_core::loose_usage(
    const std::unordered_map<std::string, record_ptr>& live) {
  bool busy = !live.empty();
  std::unordered_set<std::string> named;
  for (const auto& [id, r] : live) {
    auto data = r->copy();
    for (const auto& blob : data.blobs()) named.insert(blob.digest());
  }
  std::vector<usage_record> loose;
  auto add = [&](const digest& d, std::int64_t size, std::int64_t at_ns, bool in_use, std::string what,
                 record_type type = record_type::regular) {
    usage_record u;
    u.id = d.str();
    u.type = type;
    u.is_mutable = true;
    u.in_use = in_use;
    u.size = size;
    u.created_at_ns = at_ns;
    u.last_used_at_ns = at_ns;
    u.description = std::move(what) + " " + d.str();
    loose.push_back(std::move(u));
  };
  for (const auto& p : blobs_->partials())
    add(p.digest, p.size, p.written_at_ns, p.in_use,
        p.in_use ? "content being brought" : "unfinished content");
  std::vector<blob_info> unnamed;
  auto all = blobs_->list();
  KILN_CHECK(database_->read([&](const transaction& t) {
    for (auto& blob : all)
      if (!is_kept(blob) && !named.contains(blob.digest.str()) &&
          !t.any(table::blob_refs, key_part(blob.digest.str()) + '\0'))
        unnamed.push_back(std::move(blob));
  }));
  std::unordered_set<std::string> mentioned;
  std::erase_if(unnamed, [&](const blob_info& blob) {
    auto text = document_text(*blobs_, blob.digest);
    if (text) add_mentioned(*text, mentioned);
    return text.has_value();
  });
  for (const auto& blob : unnamed) {
    auto measured = allocated_bytes(blobs_->path_of(blob.digest));
    auto size = measured.ok() ? *measured : blob.size;
    bool of_image = mentioned.contains(blob.digest.str());
    add(blob.digest, size, blob.created_at_ns, blob.in_use || (busy && is_recent(blob)),
        of_image ? "content of a stored image" : "unused content",
        of_image ? record_type::internal : record_type::regular);
  }
  return loose;
}

/// Removes whole content that nobody came to name for as long as unfinished content waits; whether it did.
bool store_core::drop_stale_loose(const usage_record& u) {
  auto d = loose_id(u.id);
  auto oldest = now_ns() - std::chrono::nanoseconds(limits::partial_blob_age).count();
  if (!d || u.in_use || u.type == record_type::internal || u.created_at_ns >= oldest) return false;
  auto gone = remove_loose(*d);
  if (!gone) spdlog::warn("store: {}", gone.error().message);
  return gone.ok() && *gone;
}

/// Whole or not; what somebody came to bring or to hold meanwhile stays. Whether it went.
result<bool> store_core::remove_loose(const digest& d) {
  auto gone = blobs_->remove_partial(d);
  if (!gone && gone.error().code == errc::failed_precondition) return false;
  KILN_CHECK(std::move(gone));
  return remove_blob(d);
}

result<std::vector<usage_record>> store_core::disk_usage(const std::vector<std::string>& filters) {
  KILN_TRY(auto wanted, filter::parse(filters));
  KILN_TRY(auto usage, all_usage());
  std::erase_if(usage, [&](const usage_record& u) { return !wanted.matches(fields_of(u)); });
  return usage;
}

/// Reserves a record for removal unless somebody has it.
bool store_core::doom(const std::string& id) {
  record_ptr alive;  // dies after the lock
  std::lock_guard lock(mutex_);
  if (auto found = live_.find(id); found != live_.end()) alive = found->second.lock();
  return !alive && deleting_.insert(id).second;
}

status store_core::prune(const prune_options& options,
                         const std::function<void(const usage_record&)>& removed) {
  KILN_TRY(auto wanted, filter::parse(options.filters));
  std::lock_guard one_at_a_time(prune_mutex_);
  blobs_->remove_stale_partials();
  KILN_TRY(auto all, all_usage());
  std::erase_if(all, [this](const usage_record& u) { return drop_stale_loose(u); });
  std::int64_t total = 0;
  std::unordered_map<std::string, int> children;
  std::unordered_map<std::string, std::size_t> index_of;
  for (std::size_t i = 0; i < all.size(); ++i) {
    total += all[i].size;
    index_of[all[i].id] = i;
    for (const auto& parent : all[i].parents) ++children[parent];
  }
  struct statvfs disk {};
  if (options.min_free_space != 0 && ::statvfs(root_.c_str(), &disk) != 0)
    return errno_error(errno, "free space of " + root_.string());
  auto free = static_cast<std::int64_t>(disk.f_bavail) * static_cast<std::int64_t>(disk.f_frsize);
  auto keep = bytes_to_keep(options, total, free);
  auto cut_off = now_ns() - options.keep_duration_ns;

  auto went = [&](const usage_record& u) {
    total -= u.size;
    for (const auto& parent : u.parents) --children[parent];
    if (removed) removed(u);
  };
  status failure;  // the first; the rest goes on
  std::vector<bool> gone(all.size());
  while (keep == 0 || total > keep) {
    std::vector<const usage_record*> candidates;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const auto& u = all[i];
      if (gone[i] || u.in_use || children[u.id] > 0) continue;
      if (!options.all && (u.type == record_type::internal || u.type == record_type::frontend || u.shared))
        continue;
      if (options.keep_duration_ns != 0 && u.last_used_at_ns && *u.last_used_at_ns > cut_off) continue;
      if (wanted.matches(fields_of(u))) candidates.push_back(&u);
    }
    if (candidates.empty()) break;
    if (keep != 0) {
      sort_by_worth(candidates);
      candidates.resize(1);
    }
    std::vector<std::string> ids;
    for (const auto* u : candidates) {
      // Whoever came to use it in the meantime keeps it, and with it its parents.
      gone[index_of[u->id]] = true;
      if (auto loose = loose_id(u->id)) {
        auto done = remove_loose(*loose);
        if (done.ok() && *done) went(*u);
        else if (!done.ok() && failure.ok()) failure = std::move(done).error();
      } else if (doom(u->id)) {
        ids.push_back(u->id);
      }
    }
    if (!ids.empty()) {
      auto done = remove_records(ids, true, [&](const std::vector<std::string>& those) {
        for (const auto& id : those) went(all[index_of.at(id)]);
      });
      if (!done.ok() && failure.ok()) failure = std::move(done);
    }
    std::lock_guard lock(mutex_);
    for (const auto& id : ids) deleting_.erase(id);
  }
  KILN_CHECK(std::move(failure));
  if (!options.filters.empty()) return {};
  if (options.all && keep == 0) return drop_unreferenced_blobs();
  KILN_TRY(auto documents, unnamed_documents(*database_, *blobs_));
  for (const auto& d : documents)
    KILN_CHECK(remove_blob(d, [](const blob_info& b) { return !is_recent(b); }));
  return {};
}

/// Blobs that no record names, documents too. While somebody works, recent ones may be about to be named;
/// those labelled `kiln.keep…` belong to somebody else.
status store_core::drop_unreferenced_blobs() {
  KILN_CHECK(flush_records());
  bool busy = false;
  {
    std::vector<record_ptr> seen;  // so that none dies under the lock
    std::lock_guard lock(mutex_);
    for (const auto& [id, weak] : live_) {
      seen.push_back(weak.lock());
      busy = busy || seen.back();
    }
  }
  std::vector<blob_info> unreferenced;
  auto all = blobs_->list();
  KILN_CHECK(database_->read([&](const transaction& t) {
    for (const auto& blob : all)
      if (!is_kept(blob) && !(busy && is_recent(blob)) &&
          !t.any(table::blob_refs, key_part(blob.digest.str()) + '\0'))
        unreferenced.push_back(blob);
  }));
  for (const auto& seen : unreferenced)
    KILN_CHECK(remove_blob(seen.digest, [&](const blob_info& now) {
      return now.created_at_ns == seen.created_at_ns && !is_kept(now);  // nobody has stored it again since
    }));
  return {};
}

}  // namespace kiln::store
