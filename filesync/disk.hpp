// Small file-system acts the receiver needs, each on a directory descriptor and never through a symlink.
#pragma once

#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "filesync/file_stat.hpp"

namespace kiln::filesync {

/// Removes `name` and everything below it; fine when it is not there. Any depth, bounded descriptors.
status remove_tree_at(int dir_fd, const std::string& name);

/// A name nobody else uses in this directory: ".tmp." and random letters.
std::string temporary_name();

/// Owner, permissions, xattrs (best effort, never those of overlayfs nor file capabilities) and mtime of a
/// file or directory open for it. `extra_mode` is or-ed in for the time being; mtime is left alone for
/// directories.
status apply_metadata(int fd, const file_stat& stat, mode_t extra_mode = 0);
/// The same for what cannot be opened (symlinks, devices), by name.
status apply_metadata_at(int dir_fd, const std::string& name, const file_stat& stat);
/// Sets mtime (and atime) in nanoseconds since the epoch, not following a symlink.
status set_mtime_at(int dir_fd, const std::string& name, std::int64_t nanoseconds);

}  // namespace kiln::filesync
