// Copying a directory tree within a file system, as it is: modes, owners, times, xattrs, devices, hard links.
// Knows nothing of records or layers. Thread-safe.
#pragma once

#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "base/result.hpp"
#include "messages/job.hpp"

namespace kiln::store {

struct copy_options {
  /// Regular files become hard links to their originals instead of copies. Only where nobody writes
  /// into existing files afterwards, but always replaces them by rename.
  bool hard_link_files = false;
};

/// Copies what is inside `from` into the existing directory `to`, whose own metadata becomes that of
/// `from`. Files that are linked together stay so.
status copy_tree(const std::filesystem::path& from, const std::filesystem::path& to,
                 const copy_options& options, const job_context& job);

/// Copies one entry (not the children of a directory): `name` in the directory `from`, to `to_name` in `to`.
status copy_entry(int from, const std::string& name, const struct stat& info, int to,
                  const std::string& to_name, const job_context& job);

/// Gives the entry `name` of directory `to` the owner, mode, xattrs and times of entry `from_name` of `from`.
status copy_metadata(int from, const std::string& from_name, const struct stat& info, int to,
                     const std::string& name);

}  // namespace kiln::store
