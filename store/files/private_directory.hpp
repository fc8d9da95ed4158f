// Directories that no other user of this machine may change, swap for another or look into: where the daemon
// keeps its state, and what clients of one user share.
//
// The way to such a directory is walked by descriptor from "/": every directory and every symlink on it must
// belong to root or to us, and none may be one that others can rename things in. After that its path can be
// relied on. Files in it are made under a fresh name and never opened through a link. Thread-safe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace kiln::store {

/// Who else may change directories on the way, without that being a danger.
struct trusted_others {
  std::optional<uid_t> user;
  std::optional<gid_t> group;
};

/// Makes the directory with its parents (0755) where it is missing, and checks that nobody but root, us and
/// those trusted can put anything else in its place or take out of it what we put there. Its path without
/// symlinks. permission_denied names the directory that is in the way, its owner and its mode.
result<std::filesystem::path> guarded_directory(const std::filesystem::path& path,
                                                const trusted_others& others = {});

class private_directory {
 public:
  private_directory() = default;

  /// Makes the directory where it is missing (parents 0755) and gives it mode 0700. permission_denied names
  /// path, owner and mode: when the way to it is not safe, when it is another user's, or when it holds
  /// anything and others could write to it.
  static result<private_directory> open(const std::filesystem::path& path);
  /// The same for a directory in this one.
  result<private_directory> directory(const std::string& name) const;

  /// Absolute and without symlinks.
  const std::filesystem::path& path() const noexcept { return path_; }
  int fd() const noexcept { return fd_.get(); }

  bool has(const std::string& name) const;
  /// A regular file; resource_exhausted above `limit` bytes.
  result<std::string> read(const std::string& name, std::int64_t limit) const;
  /// Replaces a file by a new one with exactly this mode; whoever has the old one open or mounted keeps it.
  status write(const std::string& name, std::string_view bytes, mode_t mode) const;
  /// Removes what a write() that was cut off has left. At the start, before anybody writes.
  status sweep_unfinished() const;
  /// Removes a file, or a tree. Absent is fine.
  status remove(const std::string& name) const;
  result<std::vector<std::string>> names() const;

 private:
  private_directory(unique_fd fd, std::filesystem::path path) : fd_(std::move(fd)), path_(std::move(path)) {}
  static result<private_directory> claim(const unique_fd& there, std::filesystem::path path);

  unique_fd fd_;
  std::filesystem::path path_;
};

}  // namespace kiln::store
