// Looking one vertex output up in the cache-key graph, and the keys to keep once it has a result.
// Pure: the graph is reached through `key_lookup`. Knows nothing of results, refs or who asks.
//
// A vertex output has a set of key ids. An op without inputs has root keys, sha256("<op digest>@<output>").
// Any other op matches a key that every input leads to, by one of its own keys under the input's
// selector, or by its content key (root key of the content digest at output -1) without one. When
// nothing matches, the key that its result will be kept under is computed from the inputs' keys, so
// that equal work has equal keys wherever it was asked for. Source: solver/edge.go, solver/cachekey.go.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.hpp"
#include "messages/cache_records.hpp"
#include "solver/cache_map.hpp"

namespace kiln::solver {

/// Where links are looked up: the local database, imported caches.
class key_lookup {
 public:
  virtual ~key_lookup() = default;
  virtual std::vector<std::string> children(std::string_view parent, const cache_link& link) const = 0;
};

/// sha256("<digest>@<output>"); a `random:` digest stays one. Source: solver/cachekey.go rootKey.
std::string root_key(std::string_view op_digest, int output);
/// The key of content: root_key at output -1.
std::string content_key(const kiln::digest& content);
/// Keys that must not be persisted: random roots and what was derived from them.
inline bool is_random(std::string_view key) { return key.starts_with("random:"); }

class key_search {
 public:
  key_search(cache_map map, int output);

  /// A further cache map of an op without inputs (image: chain id after manifest).
  void add_root(const kiln::digest& op_digest);
  /// The keys of an input as far as known; more may come later.
  void add_input_keys(int input, const std::vector<std::string>& keys, const key_lookup& db);
  void set_content(int input, const kiln::digest& content, const key_lookup& db);

  int inputs() const { return static_cast<int>(inputs_.size()); }
  int output() const { return output_; }
  const cache_dependency& dependency(int input) const { return map_.dependencies[at(input)]; }
  const cache_map& map() const { return map_; }
  /// Whether any key of the input leads somewhere under this op.
  bool matched(int input) const { return !inputs_[at(input)].children.empty(); }
  bool has_content(int input) const { return !inputs_[at(input)].content.empty(); }
  /// Whether content could still help this input.
  bool may_use_content(int input) const { return dependency(input).content_based && !has_content(input); }

  /// Keys all inputs lead to; the root keys when there are no inputs. Sorted.
  std::vector<std::string> matches() const;
  /// The key of a result made from these inputs, every input having a key. Random if an input counts
  /// by a random key only.
  std::string final_key() const;
  /// Every link that leads to `child`: to complete partial matches, or to persist a final key.
  /// Links out of random keys are left out; nothing when an input would have no link at all.
  std::vector<cache_edge> links_to(const std::string& child) const;
  const std::vector<std::string>& roots() const { return roots_; }
  /// The link of every key and content known, without its child: all that is looked up.
  std::vector<cache_edge> lookups() const;
  /// A short stable text of what input i counted by: content key or primary key.
  std::string primary(int input) const;

 private:
  struct input_state {
    std::set<std::string> keys;
    std::string content;             // key, not digest
    std::set<std::string> children;  // of all of them
  };
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }
  cache_link link(int input, bool by_content) const;

  cache_map map_;
  int output_;
  std::vector<std::string> roots_;
  std::vector<input_state> inputs_;
};

}  // namespace kiln::solver
