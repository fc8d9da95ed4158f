// What a build's cache export says: records, how they lead to each other, and their results; made into a
// config. Pure. Equal records met on different ways become one. Source: cache/remotecache/v1/chains.go,
// utils.go; cache/remotecache/inline/inline.go.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "messages/descriptor.hpp"
#include "solver/remote_cache/config.hpp"
#include "solver/remote_cache/imported_graph.hpp"

namespace kiln::solver::remote_cache {

/// The layers of a result, bottom first, with the annotations caches live by.
struct layer_chain {
  std::int64_t created_at_ns = no_time;
  std::vector<descriptor> layers;
};

/// One key to be exported: every way into it, and its result if there is one to export.
struct exported_key {
  std::string id;
  std::vector<key_origin> origins;  // empty: a root
  std::optional<layer_chain> result;
};

/// A config and what its layers are.
struct marshalled {
  cache_config config;                        // canonical
  std::map<kiln::digest, descriptor> layers;  // of config.layers, OCI media types
};

class chains {
 public:
  struct source {
    std::size_t record;
    std::string selector;
    auto operator<=>(const source&) const = default;
  };

  /// The keys of a build, in any order; ways from keys that are not among them, random ones, loops, and
  /// keys that an input has no way to are left out.
  static chains of(const std::vector<exported_key>& keys);

  /// Adds a record, or finds the one that every input already leads to by that digest; its number.
  /// `inputs[i]` must not be empty. Nothing for a random digest.
  std::optional<std::size_t> add(const std::string& digest, const std::vector<std::vector<source>>& inputs);
  void add_result(std::size_t record, layer_chain result);

  /// Only the newest result of a record is kept, as in BuildKit.
  marshalled marshal() const;

  /// One layer of the image that carries an inline cache, bottom first.
  struct image_layer {
    kiln::digest blob;
    kiln::digest diff_id;
  };
  /// The value of the image config's key moby.buildkit.cache.v0 before base64: JSON records whose results
  /// consist of this image's layers (same blob or same content). Empty when there is no such result.
  std::string inline_records(std::span<const image_layer> image) const;

 private:
  struct record {
    std::string digest;
    std::vector<std::set<source>> inputs;
    std::map<std::tuple<std::string, int, std::string>, std::vector<std::size_t>> children;
    std::optional<layer_chain> best;
    std::size_t merged_into;  // itself unless it was found equal to another
  };
  std::size_t resolve(std::size_t r) const;
  void merge(std::size_t from, std::size_t into);
  bool leads_to(std::size_t from, std::size_t to) const;
  void link(std::size_t parent, std::size_t child, int input, const std::string& selector);
  /// Records with their inputs resolved, parents first, what loops left out.
  struct sound_record {
    std::size_t record;
    std::vector<std::set<source>> inputs;
  };
  std::vector<sound_record> sound() const;
  marshalled marshal_if(const std::function<bool(const layer_chain&)>& accept) const;

  std::vector<record> records_;
  std::map<std::string, std::size_t> roots_;
};

/// The OCI layer media type that says the same; other types stay. Source: util/compression/compression.go.
std::string oci_layer_type(const std::string& media_type);
/// The Docker one.
std::string docker_layer_type(const std::string& media_type);

}  // namespace kiln::solver::remote_cache
