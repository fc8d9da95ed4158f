// How an op takes part in cache keys: its own digest and, per input, a selector and whether content helps.
// Pure. Source: wire.md section 8 (texts shared with remote caches).
#pragma once

#include <string>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "messages/content_selector.hpp"
#include "messages/platform.hpp"
#include "ops.pb.h"

namespace kiln::solver {

struct cache_dependency {
  std::string selector;  // digest text, part of the link; may be empty
  /// When set, the input's content under these selectors may stand for its definition keys.
  bool content_based = false;
  std::vector<content_selector> content;
};

struct cache_map {
  kiln::digest op_digest;                      // `random:` = never matches by definition
  std::vector<cache_dependency> dependencies;  // one per op input
  bool more = false;                           // a further key can be had under index + 1
  std::string origin;                          // a source in its normal form, for provenance
  std::string pin;                             // what it resolved to: a digest or a commit
};

/// The cache map of exec, file, merge, diff, build and passthrough ops. Sources: see source_cache_map.
result<cache_map> cache_map_of(const pb::Op& op, const platform& p);

/// The cache map of a source whose key text is `key` ("session:…" keys give a `random:` digest).
cache_map source_cache_map(std::string_view key);

}  // namespace kiln::solver
