// The cache-key database as the solver's pure code sees it.
#pragma once

#include "solver/cache_key.hpp"
#include "store/cache_keys.hpp"

namespace kiln::actors {

/// Result id of a scratch result, which has no record.
inline const std::string scratch_result = "scratch";

inline store::cache_link to_link(const solver::key_link& l) {
  return {l.input, l.output, l.digest, l.selector};
}

class key_reader : public solver::key_lookup {
 public:
  explicit key_reader(const store::cache_keys& keys) : keys_(keys) {}
  std::vector<std::string> children(std::string_view parent, const solver::key_link& link) const override {
    return keys_.children(parent, to_link(link));
  }

 private:
  const store::cache_keys& keys_;
};

inline void append_links(store::cache_keys::batch& batch, const std::vector<solver::key_entry>& entries) {
  for (const auto& e : entries) batch.links.push_back({e.parent, to_link(e.link), e.child});
}

}  // namespace kiln::actors
