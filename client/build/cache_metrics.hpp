// --debug-json-cache-metrics: how much of a build came from the cache. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "client/progress/status.hpp"

namespace kiln::client {

class cache_metrics {
 public:
  void update(const solve_status& status);
  /// "cache miss: <name>" lines, then one line of JSON. Source: buildctl cachemetrics.go.
  std::string render(std::int64_t duration_ms) const;

 private:
  struct entry {
    std::string name;
    bool cached = false;
    bool completed = false;
    bool base_image = false;
  };
  std::map<std::string, entry> vertices_;
};

}  // namespace kiln::client
