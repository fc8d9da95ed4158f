#include "actors/worker/cache_scope.hpp"

#include <algorithm>
#include <unordered_map>

namespace kiln::actors {

exporters::cache_scope scope_of(const cache_trail& trail, const exporters::import_table* imports) {
  exporters::cache_scope out;
  std::map<std::pair<std::string, std::int32_t>, std::vector<std::size_t>> places;
  std::unordered_map<std::string, std::vector<std::size_t>> by_key;
  for (std::size_t i = 0; i < trail.steps.size(); ++i) {
    places[{trail.steps[i].vertex, trail.steps[i].index}].push_back(i);
    for (const auto& key : trail.steps[i].keys) by_key[key].push_back(i);
  }
  for (const auto& s : trail.steps) {
    exporters::cached_step step{s.keys, s.ref, {}, {}};
    if (s.export_cache >= 0) step.export_cache = s.export_cache == 1;
    for (const auto& input : s.inputs)
      if (auto at = places.find({input.vertex, input.index}); at != places.end())
        step.inputs.insert(step.inputs.end(), at->second.begin(), at->second.end());
    out.steps.push_back(std::move(step));
  }
  for (const auto& r : trail.results) {
    std::vector<std::size_t> candidates;
    for (const auto& key : r.keys)
      if (auto at = by_key.find(key); at != by_key.end())
        candidates.insert(candidates.end(), at->second.begin(), at->second.end());
    auto same = std::find_if(candidates.begin(), candidates.end(),
                             [&](std::size_t i) { return out.steps[i].ref == r.ref; });
    if (same == candidates.end()) same = candidates.begin();
    if (same == candidates.end()) {
      out.results.push_back(out.steps.size());
      out.steps.push_back({r.keys, r.ref, {}, {}});
    } else {
      out.results.push_back(*same);
    }
  }
  for (const auto& id : trail.imports)
    if (auto cache = imports ? imports->find(id) : nullptr) out.imports.push_back(std::move(cache));
  return out;
}

}  // namespace kiln::actors
