// An owned file descriptor and the few calls every part of the client makes on one.
#pragma once

#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "messages/result.hpp"

namespace kiln::client {

class unique_fd {
 public:
  unique_fd() = default;
  explicit unique_fd(int fd) : fd_(fd) {}
  unique_fd(unique_fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  unique_fd& operator=(unique_fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~unique_fd() { reset(); }

  int get() const noexcept { return fd_; }
  int release() noexcept { return std::exchange(fd_, -1); }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  void reset() noexcept {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

/// Writes everything to a blocking descriptor; the errno as error otherwise.
status write_all(int fd, std::string_view bytes);
/// Reads a file of at most `limit` bytes; resource_exhausted beyond.
result<std::string> read_file(const std::string& path, std::size_t limit);
/// Reads a descriptor to its end, at most `limit` bytes.
result<std::string> read_all(int fd, std::size_t limit, std::string_view name);
/// Replaces a file in one step: temporary file beside it, fsync, rename. Mode as given, less the umask.
status write_file_atomically(const std::string& path, std::string_view bytes, unsigned mode);

}  // namespace kiln::client
