#include "client/fd.hpp"

#include <sys/stat.h>

#include <filesystem>
#include <system_error>

#include "base/digest.hpp"

namespace kiln::client {

namespace {

/// Into what is there and no file: a terminal, a pipe, /dev/null.
status write_into(const std::string& path, std::string_view bytes) {
  unique_fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return errno_error(errno, "open " + path);
  if (auto s = write_all(fd.get(), bytes); !s.ok()) return std::move(s).error().with_context("write " + path);
  return {};
}

}  // namespace

status write_file_atomically(const std::string& named, std::string_view bytes, unsigned mode) {
  struct stat there {};
  auto path = named;
  if (::stat(path.c_str(), &there) == 0) {
    if (!S_ISREG(there.st_mode)) return write_into(path, bytes);
    // A link stays one.
    std::error_code error;
    if (auto target = std::filesystem::canonical(path, error); !error) path = target.string();
  }
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
