// Trees of files as a sender offers them: a directory on disk (filtered), or several trees side by side.
// Blocking; a tree is used by one walking thread and any number of opening threads at a time.
// Source: fsutil fs.go, filter.go, followlinks.go.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "base/pattern.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "filesync/file_stat.hpp"
#include "store/files/stream.hpp"

namespace kiln::filesync {

/// Told of each entry, in protocol order (parents first, names by byte). An error ends the walk.
using stat_visitor = std::function<status(file_stat&& entry)>;

class file_tree {
 public:
  virtual ~file_tree() = default;
  /// Paths are relative and clean; the root itself is not told. Hard links: the first name told is
  /// the file, later ones carry its path as linkname.
  virtual status walk(const stat_visitor& visit, std::stop_token stop) = 0;
  /// The content of a regular file that walk() told of.
  virtual result<std::unique_ptr<store::byte_source>> open(const std::string& path) = 0;
};

enum class map_verdict { keep, exclude, skip_directory };

struct walk_options {
  std::vector<std::string> include_patterns;
  std::vector<std::string> exclude_patterns;
  /// Paths (wildcards allowed) whose symlinks are resolved and joined to the includes.
  std::vector<std::string> follow_paths;
  /// May change an entry that passed the patterns, or drop it; may be empty.
  std::function<map_verdict(file_stat&)> map;
};

/// A directory on disk. Symlinks in `root` itself are followed, none below it.
/// not_found / failed_precondition when root is no directory; invalid_argument on bad patterns.
result<std::unique_ptr<file_tree>> open_directory(const std::string& root, walk_options options = {});
/// The same for a directory already open.
result<std::unique_ptr<file_tree>> open_directory(unique_fd root, walk_options options = {});

/// Which paths `paths` lead to below root_fd, with every symlink on the way; sorted, none inside
/// another; empty when one is the root itself (no filter). Source: fsutil FollowLinks.
result<std::vector<std::string>> follow_links(int root_fd, const std::vector<std::string>& paths);

/// Trees side by side, each under a directory of its own (`directory.path()` is a single name).
/// invalid_argument on a name that is no single component, or twice.
struct sub_tree {
  file_stat directory;
  std::unique_ptr<file_tree> tree;
};
result<std::unique_ptr<file_tree>> join_trees(std::vector<sub_tree> trees);

/// Opens `path` (relative, clean) beneath root_fd without following any symlink on the way.
/// openat2 where the kernel has it, component by component elsewhere. errno is set on failure (-1).
int open_beneath(int root_fd, const std::string& path, int flags, mode_t mode = 0);

}  // namespace kiln::filesync
