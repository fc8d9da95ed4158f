#include "store/space/usage.hpp"

#include <algorithm>
#include <iterator>
#include <unordered_set>

#include <spdlog/spdlog.h>

#include "store/files/file_facts.hpp"
#include "store/records/record_rows.hpp"
#include "store/space/documents.hpp"

namespace kiln::store {

namespace {

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

}  // namespace

std::optional<digest> loose_id(const std::string& id) {
  auto d = digest::parse(id);
  if (!d.ok()) return std::nullopt;
  return *std::move(d);
}

/// Bytes of the record's directory. Takes a walk, and is the same ever after.
std::int64_t usage_ledger::measure_snapshot(const stored::Record& r) {
  if (r.snapshot() == 0) return 0;
  bool own_only = r.kind() == static_cast<int>(record_kind::diff);  // shares those of layers
  auto size = allocated_bytes(root_.snapshots().fs_of(r.snapshot()), own_only);
  return size.ok() ? *size : 0;
}

/// Bytes of the record's blobs that are in the store now. They come and go by many ways (fetched, pushed,
/// named by another record, dropped as corrupt), and a look costs little: it is not remembered.
std::int64_t usage_ledger::measure_blobs(const stored::Record& r) {
  std::int64_t bytes = 0;
  for (const auto& blob : r.blobs())
    if (auto size = allocated_bytes(root_.blobs().path_of(digest::trusted(blob.digest()))); size.ok())
      bytes += *size;
  return bytes;
}

std::optional<std::int64_t> usage_ledger::own_size(const record_ptr& r) {
  if (!r) return 0;
  auto data = r->copy();
  if (data.snapshot() == 0) return std::nullopt;
  if (data.snapshot_size() == 0) {
    data.set_snapshot_size(measure_snapshot(data) + 1);
    r->set_size(data);
  }
  return data.snapshot_size() - 1 + measure_blobs(data);
}

result<std::vector<stored::Record>> usage_ledger::at_rest() {
  std::vector<stored::Record> records;
  KILN_CHECK(root_.database().read([&](const transaction& t) {
    t.scan(table::records, {}, [&](auto, std::string_view bytes) {
      stored::Record r;
      if (r.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) records.push_back(std::move(r));
      return true;
    });
  }));
  return records;
}

/// Snapshots being written are in memory only.
void usage_ledger::add_unsaved(const live_records& live, std::vector<stored::Record>& records) {
  std::unordered_set<std::string> known;
  for (const auto& r : records) known.insert(r.id());
  for (const auto& [id, r] : live)
    if (auto data = r->copy(); !known.contains(id) && data.snapshot() != 0)
      records.push_back(std::move(data));
}

result<std::vector<usage_record>> usage_ledger::all() {
  if (auto flushed = records_.flush_records(); !flushed) spdlog::warn("store: {}", flushed.error().message);
  KILN_TRY(auto records, at_rest());
  auto live = records_.live();
  std::erase_if(records, [this](const auto& r) { return records_.is_being_removed(r.id()); });
  add_unsaved(live, records);
  std::vector<usage_record> usage;
  std::vector<stored::Record> measured;
  for (auto& r : records) {
    bool in_use = live.contains(r.id());
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
  remember(measured, live);
  KILN_TRY(auto unnamed, loose(live));
  usage.insert(usage.end(), std::make_move_iterator(unnamed.begin()), std::make_move_iterator(unnamed.end()));
  return usage;
}

void usage_ledger::remember(const std::vector<stored::Record>& measured, const live_records& live) {
  if (measured.empty()) return;
  for (const auto& seen : measured)
    if (auto found = live.find(seen.id()); found != live.end()) found->second->set_size(seen);
  auto kept = root_.database().write([&](transaction& t) -> status {
    for (const auto& seen : measured)
      if (auto r = get_record(t, seen.id()); r && take_size(seen, *r))
        KILN_CHECK(t.put(table::records, r->id(), r->SerializeAsString()));
    return {};
  });
  if (!kept) spdlog::warn("store: {}", kept.error().message);
}

/// Blobs that no record names: those that were not brought to their end, whole ones whose record never came,
/// and layers that only the manifest of a stored image names. Documents are not told. While somebody works
/// recent ones may be named yet, and what lives may have been refused by the database so far.
result<std::vector<usage_record>> usage_ledger::loose(const live_records& live) {
  bool busy = !live.empty();
  std::unordered_set<std::string> named;
  for (const auto& [id, r] : live) {
    r->look([&named](const stored::Record& data) {
      for (const auto& blob : data.blobs()) named.insert(blob.digest());
    });
  }
  std::vector<usage_record> all;
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
    all.push_back(std::move(u));
  };
  for (const auto& p : root_.blobs().partials())
    add(p.digest, p.size, p.written_at_ns, p.in_use,
        p.in_use ? "content being brought" : "unfinished content");
  std::vector<blob_info> unnamed;
  auto blobs = root_.blobs().list();
  KILN_CHECK(root_.database().read([&](const transaction& t) {
    for (auto& blob : blobs)
      if (!is_kept(blob) && !named.contains(blob.digest.str()) && !is_named(t, blob.digest.str()))
        unnamed.push_back(std::move(blob));
  }));
  std::unordered_set<std::string> mentioned;
  std::erase_if(unnamed, [&](const blob_info& blob) {
    auto text = document_text(root_.blobs(), blob.digest);
    if (text) add_mentioned(*text, mentioned);
    return text.has_value();
  });
  for (const auto& blob : unnamed) {
    auto measured = allocated_bytes(root_.blobs().path_of(blob.digest));
    auto size = measured.ok() ? *measured : blob.size;
    bool of_image = mentioned.contains(blob.digest.str());
    add(blob.digest, size, blob.created_at_ns, blob.in_use || (busy && is_recent(blob)),
        of_image ? "content of a stored image" : "unused content",
        of_image ? record_type::internal : record_type::regular);
  }
  return all;
}

}  // namespace kiln::store
