// What changed between two directory trees: a walk over both at once, names in order.
// Files are the same when type, mode, owner, device, link target, xattrs and size agree and either the
// inode or the modification time with a resolution below the second agrees, or else the content does.
// An overlayfs upper directory need not be walked beside all of the lower tree. It may hold more than
// changes: files renamed there and back, directories that only got another time, or are opaque with nothing
// to hide. Source: containerd continuity/fs diff; util/overlay/overlay_linux.go, Changes.
#pragma once

#include <sys/stat.h>

#include <filesystem>
#include <functional>
#include <string>

#include "messages/job.hpp"

namespace kiln::store {

enum class change { added, modified, removed };

struct changed_entry {
  change kind = change::added;
  std::string path;     // relative to the trees, "a/b"
  struct stat info {};  // of the entry in the upper tree; for removed ones of the lower
  int directory = -1;   // open directory the entry is in (upper tree, for removed ones lower)
  std::string name;     // its name there
};

/// Calls `visit` for each change, parents before children; removed directories are told once.
/// A directory that only contains changes is not itself told.
status for_each_change(const std::filesystem::path& lower, const std::filesystem::path& upper,
                       const job_context& job, const std::function<status(const changed_entry&)>& visit);

/// The same where `upper` is an overlayfs upper directory on top of the tree `lower`.
status for_each_layer_change(const std::filesystem::path& lower, const std::filesystem::path& upper,
                             bool user_namespace, const job_context& job,
                             const std::function<status(const changed_entry&)>& visit);

/// Whether such an upper directory is plain: without opaque directories, and holding nothing but changes, so
/// that on any other tree it changes just what it changed on `lower`.
result<bool> holds_only_changes(const std::filesystem::path& lower, const std::filesystem::path& upper,
                                bool user_namespace, const job_context& job);

/// Makes `target` (an empty directory) an overlayfs upper directory that turns `lower` into `upper`.
status make_upper(const std::filesystem::path& lower, const std::filesystem::path& upper,
                  const std::filesystem::path& target, bool user_namespace, const job_context& job);

/// Makes `target` (an empty directory on the same file system, with which files are shared) the normalized
/// layer of an overlayfs upper directory.
status make_plain_upper(const std::filesystem::path& lower, const std::filesystem::path& upper,
                        const std::filesystem::path& target, bool user_namespace, const job_context& job);

/// Applies to the plain tree `target` what turned `lower` into `upper`.
status apply_changes(const std::filesystem::path& lower, const std::filesystem::path& upper,
                     const std::filesystem::path& target, const job_context& job);

}  // namespace kiln::store
