// The cache-key graph in the metadata database.
#pragma once

#include <memory>

#include "store/database/cache_keys.hpp"

namespace kiln::store {

class metadata_db;
class transaction;

/// `db` must outlive it.
std::unique_ptr<cache_keys> make_cache_keys(metadata_db& db);

/// cache_keys::release as part of a larger transaction.
status release_result(transaction& t, const std::string& result_id);

}  // namespace kiln::store
