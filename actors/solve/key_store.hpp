// The cache-key database, and imported caches beside it, as the solver's pure code sees them.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "exporters/cache/imported_cache.hpp"
#include "messages/cluster_types.hpp"
#include "solver/cache_key.hpp"
#include "store/database/cache_keys.hpp"

namespace kiln::actors {

/// Result id of a scratch result, which has no record.
inline const std::string scratch_result = "scratch";

inline store::cache_link to_link(const solver::key_link& l) {
  return {l.input, l.output, l.digest, l.selector};
}

inline store::cache_link to_link(const cache_query::link& l) {
  return {l.input, l.output, l.digest, l.selector};
}

using import_handles = std::vector<std::shared_ptr<const exporters::imported_cache>>;

class key_reader : public solver::key_lookup {
 public:
  key_reader(const store::cache_keys& keys, const import_handles& imports) : keys_(keys), imports_(imports) {}
  std::vector<std::string> children(std::string_view parent, const solver::key_link& link) const override {
    auto out = keys_.children(parent, to_link(link));
    for (const auto& import : imports_)
      for (auto& child : import->children(parent, link))
        if (std::find(out.begin(), out.end(), child) == out.end()) out.push_back(std::move(child));
    return out;
  }

 private:
  const store::cache_keys& keys_;
  const import_handles& imports_;
};

inline void append_links(store::cache_keys::batch& batch, const std::vector<solver::key_entry>& entries) {
  for (const auto& e : entries) batch.links.push_back({e.parent, to_link(e.link), e.child});
}

}  // namespace kiln::actors
