// From a finished build to what its cache export says: the keys its steps had, how they lead to each other in
// the local database and the imported caches, and the layers of the steps' results that are to be exported.
// Blocking; knows nothing of actors. Source: solver/exporter.go; solver/llbsolver/export.go.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "exporters/cache/cache_exporter.hpp"
#include "exporters/cache/imported_cache.hpp"
#include "exporters/layers.hpp"

namespace kiln::exporters {

/// One output of one step of the build.
struct cached_step {
  std::vector<std::string> keys;
  std::string ref;  // its result where the build made or loaded it, here or on another node; empty otherwise
  std::vector<std::size_t> inputs;   // the steps it is built on
  std::optional<bool> export_cache;  // what the definition says of exporting this step
};

struct cache_scope {
  std::vector<cached_step> steps;
  std::vector<std::size_t> results;  // the steps whose outputs the build returned
  std::vector<std::shared_ptr<const imported_cache>> imports;
};

struct collected_cache {
  solver::remote_cache::chains chains;
  std::vector<store::ref> refs;  // pinned until the export is done
  std::map<digest, exported_layer> layers;

  cache_content content(store::ref_store& store) const;
};

/// Gathers what is to be exported. Results that can no longer be had are left out.
result<collected_cache> collect_cache(const cache_scope& scope, const cache_options& options,
                                      exporter_resources resources, const job_context& job);

/// The value of an image config's "moby.buildkit.cache.v0" (JSON: a quoted base64 text) for one result of the
/// build, whose image has these layers; empty when nothing of it can be cached. `result` indexes
/// scope.results.
result<std::string> inline_cache_of(const cache_scope& scope, std::size_t result_index,
                                    std::span<const store::layer_blob> image, exporter_resources resources,
                                    const job_context& job);

/// One cache export from beginning to end, with its progress: prepares, skips empty results, runs.
result<std::map<std::string, std::string>> export_cache(cache_exporter& exporter, const cache_scope& scope,
                                                        exporter_resources resources, const job_context& job);

}  // namespace kiln::exporters
