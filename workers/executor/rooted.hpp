// Paths inside a root file system that is not ours: every look-up stays below the root, whatever symlinks
// say. Blocking kernel calls only; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace kiln::workers {

/// Opens `path` as if root_fd were "/": symlinks and ".." are resolved inside (openat2
/// RESOLVE_IN_ROOT). -1 and errno on failure. Magic links (/proc/…/fd) are refused.
int open_in_root(int root_fd, const std::string& path, int flags, mode_t mode = 0);

/// The path `path` leads to inside the root ("/a/b", clean), with all symlinks resolved; what does not
/// exist stays as it is. failed_precondition after 255 links. Source: continuity fs.RootPath.
result<std::string> resolve_in_root(int root_fd, std::string_view path);

/// Makes the directories of `path` that are missing, resolving inside the root, with this mode and
/// owner; the last component's descriptor (O_PATH). Names made, top first, are added to `made`.
result<unique_fd> make_directories_in_root(int root_fd, std::string_view path, mode_t mode, uid_t uid,
                                           gid_t gid, std::vector<std::string>* made = nullptr);

/// A small file's content; failed_precondition above `limit` bytes or if it is no regular file.
result<std::string> read_file_in_root(int root_fd, const std::string& path, std::size_t limit);

}  // namespace kiln::workers
