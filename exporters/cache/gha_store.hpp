// A cache in GitHub's Actions cache as objects: blobs under their digests, written once; the index under a
// key that counts up, since no entry can be replaced. Source: cache/remotecache/gha/gha.go; go-actions-cache,
// SaveMutable.
#pragma once

#include "configs/daemon_config.hpp"
#include "exporters/cache/gha_service.hpp"
#include "exporters/cache/object_store.hpp"

namespace kiln::exporters {

/// A cache, and who may list its entries; shared by all jobs of one import or export.
struct gha_cache {
  std::shared_ptr<gha_place> place = std::make_shared<gha_place>();
  /// Of GitHub's REST API: with both, one listing tells which blobs are there instead of a question for each.
  std::string repository, github_token;
  /// While somebody else is writing the next index.
  std::chrono::nanoseconds index_pause = configs::gha_index_pause;
  std::chrono::nanoseconds index_patience = configs::gha_index_patience;

  configs::gha_cache_config signing;

  std::once_flag listing;
  std::optional<std::set<std::string>> listed;
};

std::unique_ptr<object_store> open_gha_store(std::shared_ptr<gha_cache> cache,
                                             distribution::transport& transport, const job_context& job);

/// Keys of blobs and of a scope's index. Source: gha.go, blobKey, indexKey.
std::string gha_blob_key(const digest& blob);
std::string gha_index_key(const std::string& name, const std::string& scope, bool with_signature = false);

}  // namespace kiln::exporters
