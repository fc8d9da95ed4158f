// The cache-key database, and imported caches beside it, as the solver's pure code sees them.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "exporters/cache/imported_cache.hpp"
#include "solver/cache_key.hpp"
#include "store/database/cache_keys.hpp"

namespace kiln::actors {

using import_handles = std::vector<std::shared_ptr<const exporters::imported_cache>>;

class key_reader : public solver::key_lookup {
 public:
  key_reader(const store::cache_keys& keys, const import_handles& imports) : keys_(keys), imports_(imports) {}
  std::vector<std::string> children(std::string_view parent, const cache_link& link) const override {
    auto out = keys_.children(parent, link);
    for (const auto& import : imports_)
      for (auto& child : import->children(parent, link))
        if (std::find(out.begin(), out.end(), child) == out.end()) out.push_back(std::move(child));
    return out;
  }

 private:
  const store::cache_keys& keys_;
  const import_handles& imports_;
};

inline void append_links(cache_records& batch, const std::vector<cache_edge>& links) {
  batch.links.insert(batch.links.end(), links.begin(), links.end());
}

}  // namespace kiln::actors
