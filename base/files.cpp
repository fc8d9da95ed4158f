#include "base/files.hpp"

#include <dirent.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

namespace kiln {

namespace fs = std::filesystem;

namespace {

/// The kernel reads a path up to its first NUL: it would open another one.
status check_path(const std::string& path) {
  if (path.find('\0') == std::string::npos) return {};
  return make_error(errc::invalid_argument, "open: a NUL character in a path");
}

}  // namespace

result<unique_fd> open_at(int directory, const std::string& path, int flags, mode_t mode) {
  KILN_CHECK(check_path(path));
  int fd = ::openat(directory, path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) return errno_error(errno, "open " + path);
  return unique_fd(fd);
}

result<unique_fd> open_file(const fs::path& path, int flags, mode_t mode) {
  return open_at(AT_FDCWD, path.string(), flags, mode);
}

result<unique_fd> open_in_root(int root, const std::string& path, int flags, mode_t mode) {
  KILN_CHECK(check_path(path));
  open_how how{};
  how.flags = static_cast<std::uint64_t>(static_cast<unsigned>(flags | O_CLOEXEC));
  how.mode = flags & (O_CREAT | O_TMPFILE) ? mode : 0;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  while (true) {
    auto fd =
        static_cast<int>(::syscall(SYS_openat2, root, path.empty() ? "." : path.c_str(), &how, sizeof how));
    if (fd >= 0) return unique_fd(fd);
    if (errno != EAGAIN && errno != EINTR) return errno_error(errno, "open " + path);
  }
}

status write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    auto written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno_error(errno, "write");
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

result<std::string> read_all(int fd, std::int64_t limit, std::string_view name) {
  std::string text;
  char buffer[64 * 1024];
  while (true) {
    auto count = ::read(fd, buffer, sizeof buffer);
    if (count < 0) {
      if (errno == EINTR) continue;
      return errno_error(errno, "read " + std::string(name));
    }
    if (count == 0) return text;
    text.append(buffer, static_cast<std::size_t>(count));
    if (static_cast<std::int64_t>(text.size()) > limit)
      return make_error(errc::resource_exhausted,
                        std::string(name) + " is larger than " + std::to_string(limit) + " bytes");
  }
}

result<std::string> read_file(const fs::path& path, std::int64_t limit) {
  KILN_TRY(auto fd, open_file(path, O_RDONLY));
  return read_all(fd.get(), limit, path.string());
}

status write_file(const fs::path& path, std::string_view bytes, mode_t mode) {
  auto temporary = path;
  temporary += ".tmp";
  KILN_TRY(auto fd, open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC, mode));
  auto written = write_all(fd.get(), bytes);
  if (written.ok() && ::fsync(fd.get()) != 0) written = errno_error(errno, "fsync");
  if (written.ok() && ::rename(temporary.c_str(), path.c_str()) != 0) written = errno_error(errno, "rename");
  if (!written.ok()) {
    ::unlink(temporary.c_str());
    return std::move(written).error().with_context(path.string());
  }
  return sync_directory(path.parent_path());
}

status sync_directory(const fs::path& path) {
  KILN_TRY(auto fd, open_file(path, O_RDONLY | O_DIRECTORY));
  if (::fsync(fd.get()) != 0) return errno_error(errno, "fsync " + path.string());
  return {};
}

status make_directories(const fs::path& path, mode_t mode) {
  if (path.has_parent_path() && !fs::exists(path.parent_path()))
    KILN_CHECK(make_directories(path.parent_path(), mode));
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST)
    return errno_error(errno, "mkdir " + path.string());
  return {};
}

result<std::vector<std::string>> list_names(int directory) {
  int copy = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (copy < 0) return errno_error(errno, "open directory");
  std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(copy), ::closedir);
  if (!stream) {
    ::close(copy);
    return errno_error(errno, "read directory");
  }
  std::vector<std::string> names;
  while (true) {
    errno = 0;
    auto* entry = ::readdir(stream.get());
    if (!entry) {
      if (errno != 0) return errno_error(errno, "read directory");
      break;
    }
    std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

namespace {

/// How many directories of one path stay open while their children are removed; those above are opened again
/// by way of `..`.
constexpr std::size_t open_levels = 64;

/// Empties a directory level by level, however deep, with few descriptors and without moving anything: on an
/// overlay, directories of lower layers cannot be renamed.
class remover {
 public:
  explicit remover(dev_t device) : device_(device) {}

  status empty(unique_fd top) {
    KILN_CHECK(enter(std::move(top), {}));
    while (!levels_.empty()) {
      auto& here = levels_.back();
      if (here.names.empty()) {
        KILN_CHECK(leave());
        continue;
      }
      auto name = std::move(here.names.back());
      here.names.pop_back();
      KILN_CHECK(remove(here.fd.get(), name));
    }
    return {};
  }

 private:
  struct level {
    unique_fd fd;  // closed while far above
    ino_t inode = 0;
    std::string name;                // in the level above
    std::vector<std::string> names;  // still to be removed
  };

  status enter(unique_fd directory, std::string name) {
    struct stat info {};
    if (::fstat(directory.get(), &info) != 0) return errno_error(errno, "stat " + name);
    if (info.st_dev != device_)
      return make_error(errc::failed_precondition, name + " is a mount point; not removed");
    KILN_TRY(auto names, list_names(directory.get()));
    levels_.push_back({std::move(directory), info.st_ino, std::move(name), std::move(names)});
    if (levels_.size() > open_levels) levels_[levels_.size() - 1 - open_levels].fd.reset();
    return {};
  }

  /// The directory on top is empty: it goes, except the first.
  status leave() {
    auto done = std::move(levels_.back());
    levels_.pop_back();
    if (levels_.empty()) return {};
    auto& above = levels_.back();
    if (!above.fd) {
      KILN_TRY(above.fd, open_at(done.fd.get(), "..", O_RDONLY | O_DIRECTORY));
      struct stat info {};
      if (::fstat(above.fd.get(), &info) != 0) return errno_error(errno, "stat " + above.name);
      if (info.st_dev != device_ || info.st_ino != above.inode)
        return make_error(errc::aborted, done.name + " was moved while it was removed");
    }
    if (::unlinkat(above.fd.get(), done.name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
      return errno_error(errno, "rmdir " + done.name);
    return {};
  }

  status remove(int directory, const std::string& name) {
    if (::unlinkat(directory, name.c_str(), 0) == 0 || errno == ENOENT) return {};
    if (errno != EISDIR && errno != EPERM) return errno_error(errno, "unlink " + name);
    constexpr int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
    auto child = open_at(directory, name, flags);
    // Ours but unreadable, for who has not root's rights.
    if (!child && child.error().code == errc::permission_denied &&
        ::fchmodat(directory, name.c_str(), 0700, AT_SYMLINK_NOFOLLOW) == 0)
      child = open_at(directory, name, flags);
    if (!child) return std::move(child).error();
    return enter(*std::move(child), name);
  }

  dev_t device_;  // never leaves the file system it started on
  std::vector<level> levels_;
};

}  // namespace

status empty_directory(const fs::path& path) {
  KILN_TRY(auto fd, open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return errno_error(errno, "stat " + path.string());
  auto done = remover(info.st_dev).empty(std::move(fd));
  if (!done) return std::move(done).error().with_context(path.string());
  return {};
}

status remove_tree(const fs::path& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return {};
    return errno_error(errno, "stat " + path.string());
  }
  if (!S_ISDIR(info.st_mode)) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return errno_error(errno, "unlink " + path.string());
    return {};
  }
  KILN_CHECK(empty_directory(path));
  if (::rmdir(path.c_str()) != 0 && errno != ENOENT) return errno_error(errno, "rmdir " + path.string());
  return {};
}

std::string fd_path(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

}  // namespace kiln
