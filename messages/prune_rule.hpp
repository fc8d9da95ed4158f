// What a prune may take, and when it has taken enough: a rule of garbage collection, or what a client asks
// for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kiln {

struct prune_rule {
  std::vector<std::string> filters = {};  // containerd filter syntax, any may match; empty: all records
  bool all = false;                       // also internal and frontend records
  std::int64_t keep_duration_ns = 0;      // records used within this time stay
  std::int64_t reserved_space = 0;        // bytes that are always kept
  std::int64_t max_used_space = 0;        // bytes; 0: no bound
  std::int64_t min_free_space = 0;        // bytes; 0: no bound
};

template <class Inspector>
auto inspect(Inspector& f, prune_rule& x) {
  return f(x.filters, x.all, x.keep_duration_ns, x.reserved_space, x.max_used_space, x.min_free_space);
}

}  // namespace kiln
