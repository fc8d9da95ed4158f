#include "store/records/record_rows.hpp"

namespace kiln::store {

std::optional<stored::Record> get_record(const transaction& t, std::string_view id) {
  auto bytes = t.get(table::records, id);
  stored::Record r;
  if (!bytes || !r.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()))) return std::nullopt;
  return r;
}

bool is_named(const transaction& t, std::string_view blob_digest) {
  return t.any(table::blob_refs, key_part(blob_digest) + '\0');
}

status put_record(transaction& t, const stored::Record& r) {
  KILN_CHECK(t.put(table::records, r.id(), r.SerializeAsString()));
  for (const auto& parent : r.parents())
    if (!parent.empty()) KILN_CHECK(t.put(table::children, table_key(parent, r.id()), {}));
  if (!r.chain_id().empty()) KILN_CHECK(t.put(table::chains, key_part(r.chain_id()), r.id()));
  if (!r.name().empty()) KILN_CHECK(t.put(table::names, key_part(r.name()), r.id()));
  if (r.snapshot() != 0) KILN_CHECK(t.put(table::snapshots, std::to_string(r.snapshot()), r.id()));
  for (const auto& blob : r.blobs())
    KILN_CHECK(t.put(table::blob_refs, table_key(blob.digest(), r.id()), {}));
  return {};
}

status erase_record(transaction& t, const stored::Record& r, std::vector<std::string>& orphaned_blobs) {
  KILN_CHECK(t.erase(table::records, r.id()));
  for (const auto& parent : r.parents())
    if (!parent.empty()) KILN_CHECK(t.erase(table::children, table_key(parent, r.id())));
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
    if (!is_named(t, blob.digest())) {
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

}  // namespace kiln::store
