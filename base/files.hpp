// Files and directories, by the calls of the system: errors are values that name the path, descriptors close
// themselves. All functions are thread-safe.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace kiln {

/// openat(2), always O_CLOEXEC; the error names the path.
result<unique_fd> open_at(int directory, const std::string& path, int flags, mode_t mode = 0);
result<unique_fd> open_file(const std::filesystem::path& path, int flags, mode_t mode = 0);

/// Opens `path` beneath the directory, resolving `..` and symlinks as if it were the root
/// (openat2, RESOLVE_IN_ROOT). Safe on trees that others write to.
result<unique_fd> open_in_root(int root, const std::string& path, int flags, mode_t mode = 0);

/// Everything, to a blocking descriptor.
status write_all(int fd, std::string_view bytes);
/// All there is to read; resource_exhausted above `limit` bytes. `name`: of the descriptor, for errors.
result<std::string> read_all(int fd, std::int64_t limit, std::string_view name);
/// The whole file; resource_exhausted above `limit` bytes.
result<std::string> read_file(const std::filesystem::path& path, std::int64_t limit);
/// Replaces a file durably: temporary name, fsync, rename, fsync of the directory.
status write_file(const std::filesystem::path& path, std::string_view bytes, mode_t mode = 0600);
/// fsync of a directory: names made, moved or removed in it are then durable.
status sync_directory(const std::filesystem::path& path);
/// The directory and those above it that are missing.
status make_directories(const std::filesystem::path& path, mode_t mode = 0711);

/// Removes a tree without following links and however deep it is. Absent is fine.
status remove_tree(const std::filesystem::path& path);
/// Removes everything inside a directory.
status empty_directory(const std::filesystem::path& path);
/// All entries of an open directory except "." and "..", sorted bytewise.
result<std::vector<std::string>> list_names(int directory);

/// "/proc/self/fd/N": a path to an O_PATH descriptor, for calls that take no descriptor.
std::string fd_path(int fd);

}  // namespace kiln
