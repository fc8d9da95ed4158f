// Small RAII and syscall helpers on files and directories that the store is built from.
// Knows nothing of records or blobs. All functions are thread-safe.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "messages/result.hpp"
#include "store/unique_fd.hpp"

namespace kiln::store {

/// openat(2), always O_CLOEXEC; the error names the path.
result<unique_fd> open_at(int directory, const std::string& path, int flags, mode_t mode = 0);
result<unique_fd> open_file(const std::filesystem::path& path, int flags, mode_t mode = 0);

/// Opens `path` beneath the directory, resolving `..` and symlinks as if it were the root
/// (openat2, RESOLVE_IN_ROOT). Safe on trees that others write to.
result<unique_fd> open_in_root(int root, const std::string& path, int flags, mode_t mode = 0);

status write_all(int fd, std::string_view bytes);
/// The whole file; resource_exhausted above `limit` bytes.
result<std::string> read_file(const std::filesystem::path& path, std::int64_t limit);
/// Replaces a file durably: temporary name, fsync, rename, fsync of the directory.
status write_file(const std::filesystem::path& path, std::string_view bytes, mode_t mode = 0600);
status sync_directory(const std::filesystem::path& path);
status make_directories(const std::filesystem::path& path, mode_t mode = 0711);

/// Removes a tree without following links and however deep it is. Absent is fine.
status remove_tree(const std::filesystem::path& path);
/// Removes everything inside a directory.
status empty_directory(const std::filesystem::path& path);
/// Bytes in allocated blocks of a tree; files with several links count once, with `own_only` only where all
/// their links are in the tree.
result<std::int64_t> allocated_bytes(const std::filesystem::path& path, bool own_only = false);

/// Whether a file has as many names as it may have, or is where none can be given to it: then it is copied.
inline bool cannot_be_linked(int err) {
  return err == EMLINK || err == EXDEV || err == EPERM || err == EOPNOTSUPP || err == ENOSYS;
}

/// All entries of an open directory except "." and "..", sorted bytewise.
result<std::vector<std::string>> list_names(int directory);

/// "/proc/self/fd/N": a path to an O_PATH descriptor, for calls that take no descriptor.
std::string fd_path(int fd);

/// Nanoseconds since the Unix epoch.
std::int64_t now_ns();

}  // namespace kiln::store
