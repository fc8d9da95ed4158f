#include "client/fd.hpp"

#include "base/digest.hpp"

namespace kiln::client {

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
