#include "store/records/record_removal.hpp"

#include <algorithm>
#include <cstdlib>
#include <set>

#include <spdlog/spdlog.h>

#include "configs/store.hpp"
#include "store/database/cache_keys_db.hpp"
#include "store/records/record_rows.hpp"

namespace kiln::store {

status record_removal::remove(const std::vector<std::string>& ids, bool alone,
                              const std::function<void(const std::vector<std::string>&)>& gone) {
  status outcome;
  auto at_once = limits::removed_at_once;
  for (std::size_t at = 0; at < ids.size();) {
    auto n = std::min(at_once, ids.size() - at);
    removal r;
    auto done = forget({ids.data() + at, n}, alone, r);
    if (!done && done.error().code == errc::resource_exhausted && n > 1) {
      at_once = n / 2;  // what is kept in reserve is small
      continue;
    }
    KILN_CHECK(std::move(done));
    at += n;
    records_.removed(r.ids);
    for (auto number : r.snapshots)
      if (auto removed = root_.snapshots().remove(number); !removed && outcome.ok())
        outcome = std::move(removed);
    if (auto removed = finish_blobs(r.blobs); !removed && outcome.ok()) outcome = std::move(removed);
    if (gone) gone(r.ids);
  }
  return outcome;
}

/// The part of remove() in the database; proof against a power cut when it returns.
status record_removal::forget(std::span<const std::string> ids, bool alone, removal& out) {
  KILN_CHECK(root_.database().clean([&](transaction& t) -> status {
    out = {};
    std::vector<std::string> pending(ids.begin(), ids.end());
    while (!pending.empty()) {
      auto id = std::move(pending.back());
      pending.pop_back();
      if (!t.get(table::records, id)) {
        KILN_CHECK(t.erase(table::unsynced, id));
        continue;
      }
      auto r = get_record(t, id).value_or(stored::Record());
      r.set_id(id);
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
  return root_.database().sync();
}

// Records in memory hold what they name, and are in memory until the database has them: so one look at that,
// while nobody can come to hold the blob, sees everybody who names it.
result<bool> record_removal::remove_blob(const digest& d,
                                         const std::function<bool(const blob_info&)>& unneeded) {
  return root_.blobs().remove_unneeded(d, [&](const blob_info& blob) -> result<bool> {
    bool named = false;
    KILN_CHECK(root_.database().read([&](const transaction& t) { named = is_named(t, d.str()); }));
    return !named && (!unneeded || unneeded(blob));
  });
}

/// Removes blobs that no record names any more. One that somebody holds stays: it will be named, or told by
/// `du`.
status record_removal::finish_blobs(const std::vector<std::string>& digests) {
  if (digests.empty()) return {};
  status outcome;
  for (const auto& text : digests) {
    auto d = digest::parse(text);
    if (!d) continue;
    if (auto gone = remove_blob(*d); !gone && outcome.ok()) outcome = std::move(gone).error();
  }
  KILN_CHECK(root_.database().clean([&](transaction& t) -> status {
    for (const auto& text : digests) KILN_CHECK(t.erase(table::values, table_key(doomed_blobs_bucket, text)));
    return {};
  }));
  return outcome;
}

// ---------------------------------------------------------------- at the start

status record_removal::sweep() {
  KILN_CHECK(drop_torn_records());
  KILN_CHECK(drop_broken_records());
  KILN_CHECK(seal_retained());
  KILN_CHECK(sweep_results());
  return sweep_blobs();
}

/// Ends removals of blobs that a crash cut short.
status record_removal::sweep_blobs() {
  std::vector<std::string> digests;
  for (auto& [digest, ignored] : root_.values().all(doomed_blobs_bucket)) digests.push_back(digest);
  return finish_blobs(digests);
}

/// Records whose snapshots were not yet durable when the power went, with everything built on them.
status record_removal::drop_torn_records() {
  std::vector<std::string> torn, unsynced;
  KILN_CHECK(root_.database().read([&](const transaction& t) {
    t.scan(table::unsynced, {}, [&](std::string_view id, std::string_view boot) {
      if (boot == root_.boot_id()) unsynced.emplace_back(id);
      else torn.emplace_back(id);
      return true;
    });
  }));
  records_.add_unsynced(std::move(unsynced));
  if (torn.empty()) return {};
  spdlog::warn("store: dropping {} snapshots that may not have reached the disk before the machine went down",
               torn.size());
  return remove(torn);
}

/// Records without their snapshots, and snapshots without a record.
status record_removal::drop_broken_records() {
  std::set<std::uint64_t> named;
  std::vector<std::string> broken;
  KILN_TRY(auto present, root_.snapshots().list());
  KILN_CHECK(root_.database().read([&](const transaction& t) {
    t.scan(table::snapshots, {}, [&](std::string_view number, std::string_view id) {
      auto n = std::strtoull(std::string(number).c_str(), nullptr, 10);
      named.insert(n);
      if (!std::binary_search(present.begin(), present.end(), n)) broken.emplace_back(id);
      return true;
    });
  }));
  if (!broken.empty()) {
    spdlog::warn("store: {} records have lost their snapshots; dropping them", broken.size());
    KILN_CHECK(remove(broken));
  }
  int swept = 0;
  for (auto number : present)
    if (!named.contains(number)) {
      if (auto removed = leftovers::set_aside(root_.snapshots().directory_of(number)); !removed)
        spdlog::warn("store: {}", removed.error().message);
      else ++swept;
    }
  if (swept > 0) spdlog::info("store: swept {} snapshots that no record names", swept);
  return {};
}

/// Retained snapshots that were being written have the work directories of their mounts still.
status record_removal::seal_retained() {
  std::vector<std::uint64_t> numbers;
  KILN_CHECK(root_.database().read([&](const transaction& t) {
    t.scan(table::names, {}, [&](auto, std::string_view id) {
      if (auto r = get_record(t, id); r && r->snapshot() != 0) numbers.push_back(r->snapshot());
      return true;
    });
  }));
  for (auto number : numbers) KILN_CHECK(root_.snapshots().seal(number));
  return {};
}

/// Cache keys that lead to records that are not there: a record goes with its keys, but a key may have been
/// saved whose record was not.
status record_removal::sweep_results() {
  std::vector<std::string> absent;
  KILN_CHECK(root_.database().read([&](const transaction& t) {
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
    KILN_CHECK(root_.database().clean([&id](transaction& t) { return release_result(t, id); }));
  if (!absent.empty()) spdlog::info("store: swept the cache keys of {} results that are gone", absent.size());
  return {};
}

}  // namespace kiln::store
