#include "store/space/space.hpp"

#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <unordered_map>

#include <spdlog/spdlog.h>

#include "base/text.hpp"
#include "configs/store.hpp"
#include "messages/filter.hpp"
#include "store/files/file_facts.hpp"
#include "store/records/record_removal.hpp"
#include "store/records/record_rows.hpp"
#include "store/records/record_table.hpp"
#include "store/space/documents.hpp"
#include "store/space/prune_policy.hpp"
#include "store/space/usage.hpp"

namespace kiln::store {

store_space::store_space(record_table& records, record_removal& removal)
    : records_(records), removal_(removal), root_(records.root()) {}

std::size_t store_space::record_count() const {
  std::size_t count = 0;
  auto s = root_.database().read([&](const transaction& t) { count = t.count(table::records); });
  return s.ok() ? count : 0;
}

std::optional<std::int64_t> store_space::own_size(const ref& r) {
  return usage_ledger(records_).own_size(r.get());
}

namespace {

result<filter> parse_filters(const std::vector<std::string>& expressions, std::string_view whose) {
  auto parsed = filter::parse(expressions);
  if (parsed.ok()) return parsed;
  return std::move(parsed).error().with_context("failed to parse " + std::string(whose) + " filters [" +
                                                join(expressions, " ") + "]");
}

}  // namespace

result<std::vector<usage_record>> store_space::disk_usage(const std::vector<std::string>& filters) {
  KILN_TRY(auto wanted, parse_filters(filters, "diskusage"));
  KILN_TRY(auto usage, usage_ledger(records_).all());
  std::erase_if(usage, [&](const usage_record& u) { return !wanted.matches(fields_of(u)); });
  return usage;
}

status store_space::drop_blob(const digest& d) {
  auto gone = removal_.remove_blob(d);
  return gone.ok() ? status() : status(std::move(gone).error());
}

/// Removes whole content that nobody came to name for as long as unfinished content waits; whether it did.
bool store_space::drop_stale_loose(const usage_record& u) {
  auto d = loose_id(u.id);
  auto oldest = now_ns() - std::chrono::nanoseconds(limits::partial_blob_age).count();
  if (!d || u.in_use || u.type == record_type::internal || u.created_at_ns >= oldest) return false;
  auto gone = remove_loose(*d);
  if (!gone) spdlog::warn("store: {}", gone.error().message);
  return gone.ok() && *gone;
}

/// Whole or not; what somebody came to bring or to hold meanwhile stays. Whether it went.
result<bool> store_space::remove_loose(const digest& d) {
  auto gone = root_.blobs().remove_partial(d);
  if (!gone && gone.error().code == errc::failed_precondition) return false;
  KILN_CHECK(std::move(gone));
  return removal_.remove_blob(d);
}

/// One prune: all there is, what of it went, and what is left.
struct store_space::round {
  std::vector<usage_record> all;
  const std::function<void(const usage_record&)>& removed;
  std::int64_t total = 0;  // bytes
  std::vector<bool> tried = {};
  std::unordered_map<std::string, int> children = {};
  std::unordered_map<std::string, std::size_t> index_of = {};
  status failure = {};  // the first; the rest goes on

  void begin() {
    tried.resize(all.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
      total += all[i].size;
      index_of[all[i].id] = i;
      for (const auto& parent : all[i].parents) ++children[parent];
    }
  }
  void went(const usage_record& u) {
    total -= u.size;
    for (const auto& parent : u.parents) --children[parent];
    if (removed) removed(u);
  }
  void note(status done) {
    if (!done.ok() && failure.ok()) failure = std::move(done);
  }
};

status store_space::prune(const prune_rule& rule, const std::function<void(const usage_record&)>& removed) {
  KILN_TRY(auto wanted, parse_filters(rule.filters, "prune"));
  std::lock_guard one_at_a_time(prune_mutex_);
  root_.blobs().remove_stale_partials();
  KILN_TRY(auto all, usage_ledger(records_).all());
  std::erase_if(all, [this](const usage_record& u) { return drop_stale_loose(u); });
  round r{std::move(all), removed};
  r.begin();
  struct statvfs disk {};
  if (rule.min_free_space != 0 && ::statvfs(root_.path().c_str(), &disk) != 0)
    return errno_error(errno, "free space of " + root_.path().string());
  auto free = static_cast<std::int64_t>(disk.f_bavail) * static_cast<std::int64_t>(disk.f_frsize);
  auto keep = bytes_to_keep(rule, r.total, free);
  auto cut_off = now_ns() - rule.keep_duration_ns;
  while (keep == 0 || r.total > keep) {
    std::vector<const usage_record*> candidates;
    for (std::size_t i = 0; i < r.all.size(); ++i) {
      const auto& u = r.all[i];
      if (r.tried[i] || u.in_use || r.children[u.id] > 0) continue;
      if (!rule.all && (u.type == record_type::internal || u.type == record_type::frontend || u.shared))
        continue;
      if (rule.keep_duration_ns != 0 && u.last_used_at_ns && *u.last_used_at_ns > cut_off) continue;
      if (wanted.matches(fields_of(u))) candidates.push_back(&u);
    }
    if (candidates.empty()) break;
    if (keep != 0) {
      sort_by_worth(candidates);
      candidates.resize(1);
    }
    remove_candidates(r, candidates);
  }
  KILN_CHECK(std::move(r.failure));
  if (!rule.filters.empty()) return {};
  return rule.all && keep == 0 ? drop_unreferenced_blobs() : drop_unnamed_documents();
}

/// Whoever came to use one in the meantime keeps it, and with it its parents.
void store_space::remove_candidates(round& r, const std::vector<const usage_record*>& candidates) {
  std::vector<std::string> ids;
  for (const auto* u : candidates) {
    r.tried[r.index_of[u->id]] = true;
    if (auto loose = loose_id(u->id)) {
      auto done = remove_loose(*loose);
      if (!done.ok()) r.note(std::move(done).error());
      else if (*done) r.went(*u);
    } else if (records_.begin_removal(u->id)) {
      ids.push_back(u->id);
    }
  }
  if (!ids.empty())
    r.note(removal_.remove(ids, true, [&r](const std::vector<std::string>& those) {
      for (const auto& id : those) r.went(r.all[r.index_of.at(id)]);
    }));
  records_.end_removal(ids);
}

status store_space::drop_unnamed_documents() {
  KILN_TRY(auto documents, unnamed_documents(root_.database(), root_.blobs()));
  for (const auto& d : documents)
    KILN_CHECK(removal_.remove_blob(d, [](const blob_info& b) { return !is_recent(b); }));
  return {};
}

/// Blobs that no record names, documents too. While somebody works, recent ones may be about to be named;
/// those labelled `kiln.keep…` belong to somebody else.
status store_space::drop_unreferenced_blobs() {
  KILN_CHECK(records_.flush_records());
  bool busy = records_.has_live();
  std::vector<blob_info> unreferenced;
  auto all = root_.blobs().list();
  KILN_CHECK(root_.database().read([&](const transaction& t) {
    for (const auto& blob : all)
      if (!is_kept(blob) && !(busy && is_recent(blob)) && !is_named(t, blob.digest.str()))
        unreferenced.push_back(blob);
  }));
  for (const auto& seen : unreferenced)
    KILN_CHECK(removal_.remove_blob(seen.digest, [&](const blob_info& now) {
      return now.created_at_ns == seen.created_at_ns && !is_kept(now);  // nobody has stored it again since
    }));
  return {};
}

}  // namespace kiln::store
