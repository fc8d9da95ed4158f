// A record as rows of the database: the record itself and the tables that lead to it. Call within
// transactions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store.pb.h"

#include "base/result.hpp"
#include "store/database/metadata_db.hpp"

namespace kiln::store {

/// Blobs that went with the last record that named them and may be on disk yet: a bucket of values.
inline constexpr std::string_view doomed_blobs_bucket = "store.doomed-blobs";

/// The record as it is stored; nothing when it is absent or cannot be read.
std::optional<stored::Record> get_record(const transaction& t, std::string_view id);
status put_record(transaction& t, const stored::Record& r);
/// Erases it, with the values kept with it. Blobs that no other record names are added to `orphaned_blobs`
/// and to the doomed ones.
status erase_record(transaction& t, const stored::Record& r, std::vector<std::string>& orphaned_blobs);
/// Whether some record names the blob.
bool is_named(const transaction& t, std::string_view blob_digest);

}  // namespace kiln::store
