// What a vertex looks up in the cache-key database, and in the imported caches beside it: facts that are
// copied into a job, and what the job finds. Any thread; what asks the database blocks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "actors/solve/key_store.hpp"
#include "solver/cache_key.hpp"

namespace kiln::actors {

/// What the keys of a vertex are made of, as far as it is known.
struct key_facts {
  struct input {
    std::vector<std::string> keys;
    std::optional<digest> content;
  };
  solver::cache_map map;
  std::vector<digest> further_roots;
  std::vector<input> inputs;

  solver::key_search search(int output, const solver::key_lookup& db) const {
    solver::key_search out(map, output);
    for (const auto& root : further_roots) out.add_root(root);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      out.add_input_keys(static_cast<int>(i), inputs[i].keys, db);
      if (inputs[i].content) out.set_content(static_cast<int>(i), *inputs[i].content, db);
    }
    return out;
  }
};

/// For what needs no database: which keys and links there are to look up, and the key of the result.
struct no_links : solver::key_lookup {
  std::vector<std::string> children(std::string_view, const cache_link&) const override { return {}; }
};

/// A result that may be loaded: a record here, or (with `import`) one of an imported cache.
struct known_result {
  cached_result result;
  std::shared_ptr<const exporters::imported_cache> import;
};

/// Blocking.
inline std::vector<known_result> results_of(const std::string& key, const store::cache_keys& keys,
                                            const import_handles& imports) {
  std::vector<known_result> out;
  if (solver::is_random(key)) return out;
  for (auto& r : keys.results(key)) out.push_back({std::move(r), nullptr});
  for (const auto& import : imports)
    for (auto& r : import->results(key)) out.push_back({{std::move(r.id), r.created_at_ns}, import});
  return out;
}

/// A search, and whether any key it matches has a result.
struct found_keys {
  solver::key_search search;
  bool results = false;
};

/// Blocking.
inline found_keys find_keys(const key_facts& facts, int output, const store::cache_keys& keys,
                            const import_handles& imports) {
  found_keys out{facts.search(output, key_reader(keys, imports))};
  auto matches = out.search.matches();
  out.results = std::any_of(matches.begin(), matches.end(),
                            [&](const auto& key) { return !results_of(key, keys, imports).empty(); });
  return out;
}

/// Of keys that match, what is here last and the newest of that last. Blocking.
inline std::vector<known_result> candidates_of(const std::vector<std::string>& matches,
                                               const store::cache_keys& keys, const import_handles& imports) {
  std::vector<known_result> out;
  for (const auto& key : matches)
    for (auto& r : results_of(key, keys, imports)) out.push_back(std::move(r));
  std::stable_sort(out.begin(), out.end(), [](const known_result& a, const known_result& b) {
    return std::pair(a.import == nullptr, a.result.created_at_ns) <
           std::pair(b.import == nullptr, b.result.created_at_ns);
  });
  return out;
}

/// Links that are there already need no transaction. Blocking.
inline void drop_known_links(cache_records& batch, const store::cache_keys& keys) {
  std::erase_if(batch.links, [&](const auto& entry) {
    auto children = keys.children(entry.parent, entry.link);
    return std::find(children.begin(), children.end(), entry.child) != children.end();
  });
}

}  // namespace kiln::actors
