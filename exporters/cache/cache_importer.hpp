// Importing caches: from a registry (cache manifests and images with inline caches) or a client's directory.
// Blocking; run as jobs. Source: cache/remotecache/import.go and its back ends; solver/llbsolver/bridge.go.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "exporters/cache/imported_cache.hpp"
#include "exporters/exporter.hpp"

namespace kiln::exporters {

class cache_importer {
 public:
  virtual ~cache_importer() = default;
  virtual result<std::shared_ptr<imported_cache>> load(const job_context& job) = 0;
};

/// Checks type and attributes; errors as upstream words them ("unknown cache importer: x",
/// "failed to configure registry cache importer: missing ref"). Moves nothing.
result<std::unique_ptr<cache_importer>> make_cache_importer(
    const std::string& type, const std::map<std::string, std::string>& attributes,
    exporter_resources resources);

/// Equal imports have equal ids: the ref of a registry import, else the type and a hash of the attributes.
/// Also shown to the user: "importing cache manifest from <id>". Source: bridge.go, cmKey.
std::string cache_import_id(const std::string& type, const std::map<std::string, std::string>& attributes);

/// Where the parts of a cache are read from: verified bytes of at most `limit`.
using content_reader = std::function<result<std::string>(const descriptor&, std::int64_t limit)>;

/// Parses a cache: an index or image manifest with a cache config, or an image (or index of images) with an
/// inline cache. `annotate` may add to the layers' descriptors (where else they can be had).
result<solver::remote_cache::imported_graph> read_cache_manifest(
    const descriptor& root, const content_reader& read, const std::function<void(descriptor&)>& annotate,
    const job_context& job);

}  // namespace kiln::exporters
