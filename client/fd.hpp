// The few calls every part of the client makes on file descriptors and small files.
#pragma once

#include <cerrno>
#include <string>
#include <string_view>

#include <fcntl.h>
#include <unistd.h>

#include "messages/result.hpp"
#include "store/unique_fd.hpp"

namespace kiln::client {

using kiln::unique_fd;

/// Writes everything to a blocking descriptor; the errno as error otherwise.
status write_all(int fd, std::string_view bytes);
/// Reads a file of at most `limit` bytes; resource_exhausted beyond.
result<std::string> read_file(const std::string& path, std::size_t limit);
/// Reads a descriptor to its end, at most `limit` bytes.
result<std::string> read_all(int fd, std::size_t limit, std::string_view name);
/// Replaces a file in one step: temporary file beside it, fsync, rename. Mode as given, less the umask.
status write_file_atomically(const std::string& path, std::string_view bytes, unsigned mode);

}  // namespace kiln::client
