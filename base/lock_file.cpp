#include "base/lock_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/files.hpp"

namespace kiln {
namespace {

bool is_file_at(int fd, const std::filesystem::path& path) {
  struct stat ours {
  }, there{};
  return ::fstat(fd, &ours) == 0 && ::lstat(path.c_str(), &there) == 0 && ours.st_dev == there.st_dev &&
         ours.st_ino == there.st_ino;
}

}  // namespace

lock_file::~lock_file() {
  if (held_) ::unlink(path_.c_str());
}

result<lock_file> lock_file::take(const std::filesystem::path& path) {
  lock_file out;
  out.path_ = path;
  for (;;) {
    KILN_TRY(auto file, open_file(path, O_RDWR | O_CREAT, 0600));
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EINTR) continue;
      if (errno != EWOULDBLOCK) return errno_error(errno, "could not lock " + path.string());
      return make_error(errc::failed_precondition,
                        "could not lock " + path.string() + ", another instance is running");
    }
    // Who held it before may have removed it between the two calls: then it is nobody's, and no lock.
    if (!is_file_at(file.get(), path)) continue;
    out.held_ = std::move(file);
    return out;
  }
}

}  // namespace kiln
