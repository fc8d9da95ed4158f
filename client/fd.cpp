#include "client/fd.hpp"

#include <filesystem>

#include <sys/stat.h>

#include "messages/digest.hpp"

namespace kiln::client {

status write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    auto n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return errno_error(errno, "write");
    }
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

result<std::string> read_all(int fd, std::size_t limit, std::string_view name) {
  std::string out;
  char buffer[64 * 1024];
  for (;;) {
    auto n = ::read(fd, buffer, sizeof buffer);
    if (n < 0) {
      if (errno == EINTR) continue;
      return errno_error(errno, std::string("read ") + std::string(name));
    }
    if (n == 0) return out;
    out.append(buffer, static_cast<std::size_t>(n));
    if (out.size() > limit)
      return make_error(errc::resource_exhausted,
                        std::string(name) + ": larger than " + std::to_string(limit) + " bytes");
  }
}

result<std::string> read_file(const std::string& path, std::size_t limit) {
  unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return errno_error(errno, "open " + path);
  return read_all(fd.get(), limit, path);
}

status write_file_atomically(const std::string& path, std::string_view bytes, unsigned mode) {
  auto temporary = path + "." + new_id() + ".tmp";
  unique_fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!fd) return errno_error(errno, "open " + path);
  auto written = write_all(fd.get(), bytes);
  if (written.ok() && ::fsync(fd.get()) != 0) written = errno_error(errno, "fsync");
  if (written.ok() && ::rename(temporary.c_str(), path.c_str()) != 0) written = errno_error(errno, "rename");
  if (!written.ok()) {
    ::unlink(temporary.c_str());
    return std::move(written).error().with_context("write " + path);
  }
  return {};
}

}  // namespace kiln::client
