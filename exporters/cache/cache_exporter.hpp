// Exporting a build's cache to where later builds, here or elsewhere, can import it from.
// Blocking; run as jobs. Knows nothing of actors. Source: cache/remotecache/export.go and its back ends.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "exporters/attributes.hpp"
#include "exporters/exporter.hpp"
#include "messages/job.hpp"
#include "solver/remote_cache/chains.hpp"

namespace kiln::exporters {

/// min: the result's own layers, and what lies at hand anyway; max: the layers of every step.
enum class cache_mode { min, max };

struct cache_options {
  cache_mode mode = cache_mode::min;
  bool ignore_error = false;
  compression_options compression;
};

/// What there is to export.
struct cache_content {
  solver::remote_cache::marshalled records;
  /// Brings the blob of a layer into the store.
  std::function<status(const descriptor&, const job_context&)> ensure;
};

class cache_exporter {
 public:
  virtual ~cache_exporter() = default;
  /// Name of its progress vertex, e.g. "exporting cache to registry".
  virtual std::string name() const = 0;
  virtual const cache_options& options() const = 0;
  /// Whether it becomes part of the exported image instead of being run.
  virtual bool is_inline() const { return false; }
  /// Response entries ("cache.manifest"). The content must have layers.
  virtual result<std::map<std::string, std::string>> run(const cache_content& content,
                                                         const job_context& job) = 0;
};

bool is_cache_exporter(const std::string& type);

/// Checks type and attributes; errors as upstream words them (`unknown cache exporter: "x"`,
/// "failed to configure registry cache exporter: missing ref").
result<std::unique_ptr<cache_exporter>> make_cache_exporter(
    const std::string& type, const std::map<std::string, std::string>& attributes,
    exporter_resources resources);

/// How a cache manifest looks: as an image manifest whose config is the cache config, or an index that lists
/// all.
struct manifest_style {
  bool image = true;
  bool oci = true;
};
/// "image-manifest" and "oci-mediatypes".
result<manifest_style> cache_manifest_style(const attributes& attrs);

struct cache_manifest {
  descriptor root;
  std::string bytes;
};
/// invalid_argument for an image manifest without OCI types.
result<cache_manifest> make_cache_manifest(const solver::remote_cache::marshalled& records,
                                           const descriptor& config, manifest_style style);

}  // namespace kiln::exporters
