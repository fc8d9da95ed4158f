#include "workers/executor/private_mount.hpp"

#include <cerrno>

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/mount.h>
#include <sys/stat.h>

namespace kiln::workers {

private_mount::~private_mount() {
  if (path_.empty()) return;
  if (::umount2(path_.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL) {
    spdlog::warn("{}", errno_error(errno, "unmount " + path_.string()).message);
    return;  // never remove what may still be mounted
  }
  std::error_code ec;
  std::filesystem::remove(path_, ec);
  std::filesystem::remove(directory_, ec);
}

result<private_mount> private_mount::bind(int fd, std::filesystem::path directory) {
  private_mount m;
  struct stat st {};
  if (::fstat(fd, &st) != 0) return errno_error(errno, "stat");
  std::filesystem::path point = directory / "m";
  if (S_ISDIR(st.st_mode)) {
    if (::mkdir(point.c_str(), 0700) != 0) return errno_error(errno, "mkdir " + point.string());
  } else {
    unique_fd file(::open(point.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file) return errno_error(errno, "create " + point.string());
  }
  m.directory_ = std::move(directory);
  m.path_ = point;
  std::string source = "/proc/self/fd/" + std::to_string(fd);
  if (::mount(source.c_str(), point.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0) {
    return errno_error(errno, "bind mount");
  }
  return m;
}

result<private_mount> private_mount::tmpfs(std::filesystem::path directory, unsigned long flags,
                                           const std::string& options) {
  private_mount m;
  std::filesystem::path point = directory / "m";
  if (::mkdir(point.c_str(), 0700) != 0) return errno_error(errno, "mkdir " + point.string());
  m.directory_ = std::move(directory);
  m.path_ = point;
  if (::mount("tmpfs", point.c_str(), "tmpfs", flags, options.c_str()) != 0)
    return errno_error(errno, "mount tmpfs");
  return m;
}

}  // namespace kiln::workers
