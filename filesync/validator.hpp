// Checks what a sender tells: order, clean relative paths, parents before children, hard links to files told
// before. Pure; one transfer, one thread. Source: fsutil validator.go, hardlinks.go.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "base/result.hpp"
#include "filesync/file_stat.hpp"

namespace kiln::filesync {

class entry_validator {
 public:
  /// invalid_argument: "unclean path", "absolute path", "escape check", "changes out of order: …",
  /// "invalid link … to unknown path: …".
  status check(const file_stat& entry);

 private:
  struct parent {
    std::string dir;   // "" for the root
    std::string last;  // last name seen in it
  };
  std::vector<parent> parents_{parent{}};
  std::unordered_set<std::string> files_;
};

}  // namespace kiln::filesync
