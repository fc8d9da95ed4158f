// What a killed daemon left and nobody needs. It may be large, and a start must not wait until it is gone:
// here it only loses its name, and goes on a thread of its own while the store is used.
#pragma once

#include <filesystem>
#include <stop_token>
#include <vector>

#include "base/result.hpp"
#include "base/thread.hpp"

namespace kiln::store {

class leftovers {
 public:
  ~leftovers() { stop_.request_stop(); }

  /// Renames `path` within its directory, as another one may be another mount.
  static status set_aside(const std::filesystem::path& path);
  /// Begins to remove what was set aside in `directories`, also by starts that did not come to this. What
  /// cannot be removed is logged, and seen again by the next start. Once only.
  void clear(std::vector<std::filesystem::path> directories);

 private:
  std::stop_source stop_;
  thread clearing_;
};

}  // namespace kiln::store
