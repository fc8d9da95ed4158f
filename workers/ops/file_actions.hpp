// The actions of a file op on a directory tree that is not ours: everything stays below the root's
// descriptor, whatever symlinks say. Know nothing of refs or ops. Blocking; one thread a root.
// Source: BuildKit solver/llbsolver/file, fsutil/copy.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.hpp"
#include "messages/job.hpp"
#include "ops.pb.h"

namespace kiln::workers {

struct file_owner {
  uid_t uid = 0;
  gid_t gid = 0;
};

status make_directory(int root, const pb::FileActionMkDir& action, const std::optional<file_owner>& owner);
status make_file(int root, const pb::FileActionMkFile& action, const std::optional<file_owner>& owner);
status make_symlink(int root, const pb::FileActionSymlink& action, const std::optional<file_owner>& owner);
status remove_path(int root, const pb::FileActionRm& action);
/// `root_path` is where the destination root is mounted: archives are unpacked through it.
status copy_path(int source_root, int root, const std::string& root_path, const pb::FileActionCopy& action,
                 const std::optional<file_owner>& owner, const job_context& job);

/// Entries matching a path with wildcards, sorted, as absolute paths below the root; there may be none. A
/// pattern without wildcards is itself, whether it exists or not. Links in the fixed part before the first
/// wildcard are followed, its last component only with `follow_last`; not_found "lstat /path: …" when that
/// part does not exist.
result<std::vector<std::string>> resolve_wildcards(int root, const std::string& pattern, bool follow_last);

/// Sets access and modification time of an entry, not following it; a nothing for timestamp -1.
status set_times(int directory, const std::string& name, std::int64_t timestamp_ns);

}  // namespace kiln::workers
