// Content stores in local directories: caches (type=local), OCI layouts as contexts, and OCI exports with
// tar=false.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/build/request.hpp"
#include "client/session/blob_directory.hpp"

namespace kiln::client {

struct local_stores {
  /// By the id the daemon asks for: "local:<dir>", "oci:<name>", "export".
  std::map<std::string, std::shared_ptr<blob_directory>> by_id;
  /// The cache imports that can be used; a local one without a usable index is left out with a warning.
  std::vector<cache_request> usable_imports;
};

/// Source: buildkit client/solve.go parseCacheOptions.
result<local_stores> open_local_stores(const build_request& request);
/// After the build: names what was exported in the directories' index.json, and deletes blobs of caches with
/// reset=true that nothing names any more.
status update_store_indexes(const local_stores& stores, const build_request& request,
                            const string_map& exporter_response);
/// The `cache-imports` frontend option.
std::string cache_imports_json(const std::vector<cache_request>& imports);

}  // namespace kiln::client
