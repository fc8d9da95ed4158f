// Parents of entries, below a root that is never left: the directory last used stays open, so that files of
// one directory do not resolve its path each. For one thread.
#pragma once

#include <string>

#include <fcntl.h>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "filesync/tree.hpp"

namespace kiln::filesync {

inline std::string parent_path(const std::string& path) {
  std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

inline std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

class parent_cache {
 public:
  explicit parent_cache(int root) : root_(root) {}
  int root() const noexcept { return root_; }
  /// The directory of that path; "" is the root. Good until the next call.
  result<int> get(const std::string& path) {
    if (path.empty()) return root_;
    if (!fd_ || path != path_) {
      int fd = open_beneath(root_, path, O_RDONLY | O_DIRECTORY);
      if (fd < 0) return errno_error(errno, "open " + path);
      fd_.reset(fd);
      path_ = path;
    }
    return fd_.get();
  }
  /// That of an entry.
  result<int> parent_of(const std::string& entry) { return get(parent_path(entry)); }

 private:
  int root_;
  std::string path_;
  unique_fd fd_;
};

}  // namespace kiln::filesync
