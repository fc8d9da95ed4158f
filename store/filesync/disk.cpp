#include "store/filesync/disk.hpp"

#include <cerrno>
#include <memory>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/xattr.h>

namespace kiln::filesync {

namespace {

constexpr std::size_t max_open_levels = 64;

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

struct dir_closer {
  void operator()(DIR* d) const noexcept { ::closedir(d); }
};
using dir_handle = std::unique_ptr<DIR, dir_closer>;

dir_handle open_dir(int parent, const char* name) {
  int fd = ::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 && errno == EACCES) {  // ours but unreadable; only without root's rights
    if (::fchmodat(parent, name, 0700, 0) == 0)
      fd = ::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  }
  if (fd < 0) return nullptr;
  DIR* d = ::fdopendir(fd);
  if (d == nullptr) ::close(fd);
  return dir_handle(d);
}

}  // namespace

namespace {

/// Whether the destination is one that has no such attributes, or where we may not set them. A disk that is full
/// or broken is another matter.
bool keeps_no_xattr(int err) { return err == ENOTSUP || err == EPERM || err == EACCES; }

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
  if (::unlinkat(dir_fd, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  if (errno != EISDIR && errno != EPERM && errno != EACCES) return errno_error(errno, "unlink " + name);
  struct level {
    dir_handle dir;
    std::string name;
  };
  std::vector<level> levels;
  std::vector<std::string> lifted;  // deep directories moved up beside `name`, still to be removed
  std::string current = name;
  while (true) {
    dir_handle top = open_dir(dir_fd, current.c_str());
    if (!top) {
      if (errno != ENOENT) return errno_error(errno, "remove " + current);
    } else {
      levels.push_back({std::move(top), current});
    }
    while (!levels.empty()) {
      DIR* dir = levels.back().dir.get();
      int fd = ::dirfd(dir);
      errno = 0;
      const dirent* e = ::readdir(dir);
      if (e == nullptr) {
        if (errno != 0) return errno_error(errno, "readdir " + levels.back().name);
        std::string done = std::move(levels.back().name);
        levels.pop_back();
        int parent = levels.empty() ? dir_fd : ::dirfd(levels.back().dir.get());
        if (::unlinkat(parent, done.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
          return errno_error(errno, "rmdir " + done);
        }
        continue;
      }
      std::string entry = e->d_name;
      if (entry == "." || entry == "..") continue;
      if (e->d_type != DT_DIR) {
        if (::unlinkat(fd, entry.c_str(), 0) == 0 || errno == ENOENT) continue;
        if (errno != EISDIR) return errno_error(errno, "unlink " + entry);
      }
      if (levels.size() >= max_open_levels) {
        std::string up = temporary_name();
        if (::renameat(fd, entry.c_str(), dir_fd, up.c_str()) != 0)
          return errno_error(errno, "rename " + entry);
        lifted.push_back(std::move(up));
        continue;
      }
      dir_handle child = open_dir(fd, entry.c_str());
      if (!child) {
        if (errno == ENOENT) continue;
        return errno_error(errno, "open " + entry);
      }
      levels.push_back({std::move(child), std::move(entry)});
    }
    if (lifted.empty()) return {};
    current = std::move(lifted.back());
    lifted.pop_back();
  }
}

status apply_metadata(int fd, const file_stat& stat, mode_t extra_mode) {
  if (::fchown(fd, stat.uid(), stat.gid()) != 0) return errno_error(errno, "chown " + stat.path());
  if (::fchmod(fd, permission_bits(stat.mode()) | extra_mode) != 0)
    return errno_error(errno, "chmod " + stat.path());
  for (const auto& [key, value] : stat.xattrs())
    if (::fsetxattr(fd, key.c_str(), value.data(), value.size(), 0) != 0 && !keeps_no_xattr(errno))
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
  if (!is_symlink(stat) && ::fchmodat(dir_fd, name.c_str(), permission_bits(stat.mode()), 0) != 0) {
    return errno_error(errno, "chmod " + stat.path());
  }
  if (!stat.xattrs().empty()) {
    std::string path = "/proc/self/fd/" + std::to_string(dir_fd) + "/" + name;
    for (const auto& [key, value] : stat.xattrs())
      if (::lsetxattr(path.c_str(), key.c_str(), value.data(), value.size(), 0) != 0 && !keeps_no_xattr(errno))
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
