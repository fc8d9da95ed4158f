// The key graph of imported caches, in memory: where keys lead, what results they have, where they come from.
// Pure; knows neither where the config came from nor how a layer is fetched. Immutable once filled, so
// any thread may read it. Source: cache/remotecache/v1/cachestorage.go, parse.go.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "messages/descriptor.hpp"
#include "solver/cache_key.hpp"
#include "solver/remote_cache/config.hpp"

namespace kiln::solver::remote_cache {

/// Annotations of layer descriptors that caches live by.
inline constexpr const char* annotation_diff_id = "containerd.io/uncompressed";
inline constexpr const char* annotation_created_at = "buildkit/createdat";  // RFC 3339
inline constexpr const char* annotation_description = "buildkit/description";

/// One way into a key. `record` is root_key(op digest, output), as in a config.
struct key_origin {
  std::string parent;
  int input = 0;
  std::string selector;
  std::string record;
  auto operator<=>(const key_origin&) const = default;
};

struct imported_result {
  std::string id;  // of the chain of blobs; equal chains have equal ids in any config
  std::int64_t created_at_ns = no_time;
};

class imported_graph final : public key_lookup {
 public:
  /// Adds the records of a config. A result with a blob that `blobs` does not describe is left out.
  /// Errors as check_config's; nothing is added then.
  status add(const cache_config& config, const std::map<kiln::digest, descriptor>& blobs);

  bool has(std::string_view key) const { return keys_.contains(std::string(key)); }
  std::size_t size() const { return keys_.size(); }
  std::vector<std::string> children(std::string_view parent, const cache_link& link) const override;
  /// Newest first.
  std::vector<imported_result> results(std::string_view key) const;
  /// Bottom first; empty when there is no such result.
  std::vector<descriptor> layers(std::string_view result_id) const;
  /// Empty for roots.
  std::vector<key_origin> origins(std::string_view key) const;
  /// The blobs any result is made of.
  std::vector<descriptor> all_layers() const;

 private:
  /// A layer on top of others, shared by every result it is part of.
  struct layer_node {
    descriptor blob;
    std::string below;  // id of the node under it
  };
  struct key_node {
    std::vector<key_origin> origins;
    std::vector<imported_result> results;
    // (record, input, selector) → keys
    std::map<std::string, std::vector<std::string>> children;
  };
  std::string add_layer(const descriptor& blob, const std::string& below);

  std::unordered_map<std::string, key_node> keys_;
  std::unordered_map<std::string, layer_node> layers_;
};

}  // namespace kiln::solver::remote_cache
