// What a destination directory holds now, one entry at a time in transfer order, so that it can be merged
// with what the sender tells. A directory is listed when the cursor steps into it. Not thread-safe.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.hpp"
#include "filesync/file_stat.hpp"

namespace kiln::filesync {

class dest_cursor {
 public:
  explicit dest_cursor(int root) : root_(root) {}
  /// Lists the root; call once.
  status start();
  /// The present entry (without xattrs); null at the end.
  const file_stat* current() const { return current_ ? &*current_ : nullptr; }
  /// Steps on, into the present entry if it is a directory and `enter`.
  status advance(bool enter);

 private:
  struct frame {
    std::string path;
    std::vector<std::string> names;
    std::size_t next = 0;
  };
  status list(const std::string& path);
  status load();

  int root_;
  std::vector<frame> frames_;
  std::optional<file_stat> current_;
  std::unordered_map<std::uint64_t, std::string> inodes_;  // first name of each file with links
};

}  // namespace kiln::filesync
