#include "store/files/regular_file.hpp"

#include <sys/stat.h>

#include <cerrno>

#include "base/files.hpp"

namespace kiln::store {

result<unique_fd> open_regular(int path_fd, const std::string& shown, int flags) {
  struct stat info {};
  if (::fstat(path_fd, &info) != 0) return errno_error(errno, "stat " + shown);
  if (S_ISDIR(info.st_mode)) return errno_error(EISDIR, shown);
  if (!S_ISREG(info.st_mode)) return make_error(errc::failed_precondition, shown + ": not a regular file");
  // O_NONBLOCK: a process may hold a lease on the file, which an open would wait for.
  unique_fd fd(::open(fd_path(path_fd).c_str(), flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!fd) return errno_error(errno, "open " + shown);
  return fd;
}

result<unique_fd> open_regular_at(int directory, const std::string& name, int flags) {
  KILN_TRY(auto there, open_at(directory, name, O_PATH | O_NOFOLLOW));
  return open_regular(there.get(), name, flags);
}

result<unique_fd> open_regular_in_root(int root, const std::string& path, int flags) {
  KILN_TRY(auto there, open_in_root(root, path, O_PATH));
  return open_regular(there.get(), path, flags);
}

}  // namespace kiln::store
