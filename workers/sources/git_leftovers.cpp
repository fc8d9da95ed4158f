#include "workers/sources/git_leftovers.hpp"

#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

namespace kiln::workers {

namespace fs = std::filesystem;

namespace {

/// Names that git gives to files only until they are complete. A branch may be called tmp_x, but never
/// x.lock.
bool is_leftover(const fs::path& inside) {
  auto name = inside.filename().string();
  if (name.ends_with(".lock")) return true;
  if (*inside.begin() == "objects") return name.starts_with("tmp_") || name.starts_with(".tmp-");
  return !inside.has_parent_path() && name.starts_with("shallow_");
}

}  // namespace

status remove_git_leftovers(const fs::path& git_dir) {
  std::error_code failed;
  // Hooks and what else is no file of git's own is not there: the repository is ours from the beginning.
  fs::recursive_directory_iterator entry(git_dir, failed), end;
  for (; !failed && entry != end; entry.increment(failed)) {
    std::error_code ignored;
    auto path = entry->path();
    if (entry->is_directory(ignored) || !is_leftover(path.lexically_relative(git_dir))) continue;
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return errno_error(errno, "remove " + path.string());
  }
  if (failed && failed != std::errc::no_such_file_or_directory)
    return errno_error(failed.value(), "look for what git left in " + git_dir.string());
  return {};
}

}  // namespace kiln::workers
