// The remote cache's config: records (keys, and how they lead to each other) and the layers kept under them.
// Pure: JSON to structs and back, checks of hostile input, one canonical order. Knows nothing of where it is
// kept.
//
// A record without inputs is a root: its digest is a key id (root_key of an op, content_key of content).
// Any other record's digest is root_key(op digest, output), and for every input it lists the records
// (with the selector) of which any one leads to it. Source: cache/remotecache/v1/types, wire.md section 9.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/time_text.hpp"

namespace kiln::solver::remote_cache {

inline constexpr std::string_view config_media_type = "application/vnd.buildkit.cacheconfig.v0";

/// What back ends without manifests (s3, azblob, gha) say of a layer.
struct layer_annotations {
  std::string media_type;
  kiln::digest diff_id;
  std::int64_t size = 0;                 // bytes of the blob
  std::int64_t created_at_ns = no_time;  // Unix epoch
  bool operator==(const layer_annotations&) const = default;
};

struct cache_layer {
  kiln::digest blob;
  int parent = -1;  // index of the layer below; -1 = none
  std::optional<layer_annotations> annotations;
  bool operator==(const cache_layer&) const = default;
};

/// A result whose top layer is `layer`; the layers below are that layer's parents.
struct cache_result {
  int layer = 0;
  std::int64_t created_at_ns = no_time;
  bool operator==(const cache_result&) const = default;
};

/// A result whose layers, bottom first, are listed one by one.
struct chained_result {
  std::vector<int> layers;
  std::int64_t created_at_ns = no_time;
  bool operator==(const chained_result&) const = default;
};

struct cache_input {
  std::string selector;
  int link = 0;  // index of the record it comes from
  bool operator==(const cache_input&) const = default;
};

struct cache_record {
  std::vector<cache_result> results;
  std::vector<chained_result> chains;
  std::string digest;
  std::vector<std::vector<cache_input>> inputs;
  bool operator==(const cache_record&) const = default;
};

struct cache_config {
  std::vector<cache_layer> layers;
  std::vector<cache_record> records;
  bool operator==(const cache_config&) const = default;
};

/// Parses and checks. invalid_argument names what is wrong: loops, indexes out of range, an input
/// without alternatives; resource_exhausted beyond the bounds of configs/remote_cache.hpp.
result<cache_config> parse_config(std::string_view json);
/// The inline form: the array of records alone, over the image's layers (blobs in image order).
result<cache_config> parse_inline_records(std::string_view json,
                                          const std::vector<kiln::digest>& image_layers);

/// The order of records in which every record comes after those its inputs name; the checks of
/// parse_config besides. Source: cache/remotecache/v1/parse.go.
result<std::vector<int>> check_config(const cache_config& config);

/// Go's encoding of the struct, byte for byte.
std::string to_json(const cache_config& config);
std::string records_to_json(const std::vector<cache_record>& records);

/// Sorts layers by blob and what lies below, records by digest, inputs and what they name, and links
/// by index, and rewrites the indexes: equal contents give equal bytes. The config must be sound.
/// Source: cache/remotecache/v1/utils.go, sortConfig.
void canonicalize(cache_config& config);

}  // namespace kiln::solver::remote_cache
