// Image configs and manifests as JSON, byte for byte as Go would write them. Pure.
// Source: exporter/containerimage/writer.go (patchImageConfig, normalizeLayersAndHistory).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_text.hpp"
#include "base/result.hpp"
#include "messages/descriptor.hpp"
#include "distribution/image_json.hpp"

namespace kiln::exporters {

using ordered_json = nlohmann::ordered_json;

/// What is known of one layer, for history entries the frontend did not write.
struct layer_meta {
  std::string description;
  std::int64_t created_at_ns = 0;
};

struct config_patch {
  std::vector<layer_meta> layers;
  std::vector<digest> diff_ids;
  std::optional<std::int64_t> epoch;  // seconds
  std::string base_config;            // JSON of the base image's config; may be empty
  std::string inline_cache;           // value of moby.buildkit.cache.v0: JSON; may be empty
};

/// The config to export; `config` empty = the default one. invalid_argument names what is missing.
result<std::string> patch_image_config(std::string_view config, const config_patch& patch);

/// os/arch/variant as an image config states them; nothing when it states none.
result<std::optional<platform>> platform_of_config(std::string_view config);

/// Manifest and index documents (two-space indent).
std::string manifest_json(std::string_view media_type, const descriptor& config,
                          const std::vector<descriptor>& layers,
                          const std::map<std::string, std::string>& annotations);
std::string index_json(std::string_view media_type, const std::vector<descriptor>& manifests,
                       const std::map<std::string, std::string>& annotations);

/// The layer's media type in OCI or Docker words; nondistributable ones become normal unless kept.
std::string convert_layer_type(std::string_view media_type, bool oci, bool keep_nondistributable);

}  // namespace kiln::exporters
