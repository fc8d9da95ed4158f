#include "filesync/disk.hpp"

#include <cerrno>

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/files.hpp"
#include "store/files/xattr.hpp"

namespace kiln::filesync {

namespace {

timespec to_timespec(std::int64_t nanoseconds) {
  timespec t{};
  t.tv_sec = nanoseconds / 1'000'000'000;
  t.tv_nsec = nanoseconds % 1'000'000'000;
  if (t.tv_nsec < 0) {
    t.tv_nsec += 1'000'000'000;
    --t.tv_sec;
  }
  return t;
}

}  // namespace

namespace {

/// Whether the destination is one that has no such attributes, or where we may not set them. A disk that is
/// full or broken is another matter.
bool keeps_no_xattr(int err) { return err == ENOTSUP || err == EPERM || err == EACCES; }

/// What a client tells must not direct overlayfs, nor give a program privileges: with BuildKit a chown takes
/// those away.
bool is_taken_over(const std::string& key) {
  return !store::is_overlay_xattr(key) && key != "security.capability";
}

}  // namespace

std::string temporary_name() {
  std::uint64_t random = 0;
  if (::getrandom(&random, sizeof random, 0) != sizeof random)
    random = reinterpret_cast<std::uintptr_t>(&random);
  std::string name = ".tmp.";
  for (int i = 0; i < 12; ++i, random /= 36) name += "0123456789abcdefghijklmnopqrstuvwxyz"[random % 36];
  return name;
}

status remove_tree_at(int dir_fd, const std::string& name) {
  return remove_tree(fd_path(dir_fd) + "/" + name);
}

status apply_metadata(int fd, const file_stat& stat, mode_t extra_mode) {
  if (::fchown(fd, stat.uid(), stat.gid()) != 0) return errno_error(errno, "chown " + stat.path());
  if (::fchmod(fd, permission_bits(stat.mode()) | extra_mode) != 0)
    return errno_error(errno, "chmod " + stat.path());
  for (const auto& [key, value] : stat.xattrs())
    if (is_taken_over(key) && ::fsetxattr(fd, key.c_str(), value.data(), value.size(), 0) != 0 &&
        !keeps_no_xattr(errno))
      return errno_error(errno, "setxattr " + stat.path());
  if (is_dir(stat)) return {};
  timespec t = to_timespec(stat.modtime());
  timespec times[2] = {t, t};
  if (::futimens(fd, times) != 0) return errno_error(errno, "utimes " + stat.path());
  return {};
}

status apply_metadata_at(int dir_fd, const std::string& name, const file_stat& stat) {
  if (::fchownat(dir_fd, name.c_str(), stat.uid(), stat.gid(), AT_SYMLINK_NOFOLLOW) != 0) {
    return errno_error(errno, "chown " + stat.path());
  }
  auto mode = permission_bits(stat.mode());
  if (!is_symlink(stat) && ::fchmodat(dir_fd, name.c_str(), mode, AT_SYMLINK_NOFOLLOW) != 0) {
    return errno_error(errno, "chmod " + stat.path());
  }
  if (!stat.xattrs().empty()) {
    std::string path = "/proc/self/fd/" + std::to_string(dir_fd) + "/" + name;
    for (const auto& [key, value] : stat.xattrs())
      if (is_taken_over(key) && ::lsetxattr(path.c_str(), key.c_str(), value.data(), value.size(), 0) != 0 &&
          !keeps_no_xattr(errno))
        return errno_error(errno, "setxattr " + stat.path());
  }
  return set_mtime_at(dir_fd, name, stat.modtime());
}

status set_mtime_at(int dir_fd, const std::string& name, std::int64_t nanoseconds) {
  timespec t = to_timespec(nanoseconds);
  timespec times[2] = {t, t};
  if (::utimensat(dir_fd, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
    return errno_error(errno, "utimes " + name);
  return {};
}

}  // namespace kiln::filesync
