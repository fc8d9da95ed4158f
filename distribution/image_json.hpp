// Reading and writing the JSON of manifests, indexes and descriptors. Pure.
// Source: OCI image-spec manifest.md, image-index.md, descriptor.md.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json_text.hpp"
#include "messages/descriptor.hpp"

namespace kiln::distribution {

/// A manifest or an index; which one, says the media type.
struct manifest {
  std::string media_type;
  descriptor config;                // manifests
  std::vector<descriptor> layers;   // manifests
  std::vector<descriptor> entries;  // indexes
  std::map<std::string, std::string> annotations;
  bool is_index = false;
};

/// Parses and bounds; `media_type` as the registry named it, may be empty. invalid_argument otherwise.
/// A document that is both manifest and index is refused. Source: imageutil.DetectManifestBlobMediaType.
result<manifest> parse_manifest(std::string_view bytes, std::string_view media_type);
result<descriptor> parse_descriptor(const nlohmann::json& j);
nlohmann::ordered_json descriptor_json(const descriptor& d);
nlohmann::ordered_json platform_json(const platform& p);
platform parse_platform_json(const nlohmann::json& j);

/// The entry that serves `wanted` best, attestations left out; nothing when none does.
const descriptor* choose_platform(const manifest& index, const platform& wanted);
bool is_attestation(const descriptor& d);

/// The chain id of layers with these diff ids; empty for none. Source: OCI image-spec config.md.
digest chain_id(const std::vector<digest>& diff_ids);
/// `rootfs.diff_ids` of an image config.
result<std::vector<digest>> diff_ids_of(const nlohmann::json& config);

}  // namespace kiln::distribution
