// From an image's root descriptor to its manifest, config and layers for one platform, wherever the bytes
// come from. Knows nothing of ops or cache keys. Source: util/pull/pull.go; util/imageutil/config.go.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "messages/descriptor.hpp"
#include "messages/job.hpp"
#include "store/ref_store.hpp"

namespace kiln::workers {

/// Where an image's manifests and blobs come from, for one job.
class image_origin {
 public:
  virtual ~image_origin() = default;
  /// The root descriptor of what was asked for.
  virtual result<descriptor> resolve() = 0;
  /// A manifest, index or config, verified and kept in the blob store.
  virtual result<std::string> read(const descriptor& d, std::int64_t limit) = 0;
  /// What there is about that manifest, signatures among it; nothing where nobody can tell.
  virtual result<std::vector<descriptor>> referrers(const kiln::digest&) { return std::vector<descriptor>{}; }
  /// Fetches layers later, for whichever job needs them.
  virtual std::shared_ptr<store::blob_provider> provider() = 0;
};

struct resolved_image {
  descriptor root;      // index or manifest
  descriptor manifest;  // of the platform
  descriptor config_blob;
  std::string config;  // JSON
  std::vector<store::layer_blob> layers;
  kiln::digest chain;  // chain id of the layers; empty when there are none
};

/// Reads manifest and config of `root` for `wanted`. not_found "no match for platform in manifest <digest>:
/// not found". `layer_limit` keeps the first layers only.
result<resolved_image> read_image(image_origin& origin, const descriptor& root, const platform& wanted,
                                  std::optional<int> layer_limit);

/// The image's layers as a lazy ref; empty without layers.
result<store::ref> layers_as_ref(store::ref_store& store, const resolved_image& image,
                                 std::shared_ptr<store::blob_provider> provider,
                                 const store::record_options& options);

/// Key texts of image sources: the digest of the manifest key JSON, and the chain id. Source: wire.md
/// section 8.
std::string manifest_key(const kiln::digest& root, const platform& p, std::optional<int> layer_limit);

/// A positive integer attribute; invalid_argument "invalid layer limit x".
result<std::optional<int>> parse_layer_limit(const std::string& text);
/// "", "regular", "internal", "frontend"; invalid_argument "invalid record type x".
result<store::record_type> parse_image_record_type(const std::string& text);

}  // namespace kiln::workers
