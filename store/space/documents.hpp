// Blobs that no record names but something else may: manifests, indexes, configs and statements, which name
// each other. Reads the store, changes nothing.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/result.hpp"
#include "store/blobs/blob_store.hpp"
#include "store/database/metadata_db.hpp"

namespace kiln::store {

/// Whether it belongs to somebody who says so.
bool is_kept(const blob_info& blob);
/// Whether somebody who works may be about to name it.
bool is_recent(const blob_info& blob);

/// The text of a document: manifests, indexes, configs and statements are JSON, layers never are. Of one that
/// is too large to be a manifest the beginning; nothing of other content.
std::optional<std::string> document_text(const blob_store& blobs, const digest& d);
void add_mentioned(std::string_view text, std::unordered_set<std::string>& out);

/// Documents that nothing names: no record, no label, no value or metadata, and no document that is itself
/// named or recent. None that is recent, since whoever works may be about to name it.
result<std::vector<digest>> unnamed_documents(const metadata_db& database, const blob_store& blobs);

}  // namespace kiln::store
