#include "filesync/file_stat.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <vector>

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "configs/filesync.hpp"
#include "store/files/xattr.hpp"

namespace kiln::filesync {

std::uint32_t to_go_mode(mode_t mode) {
  std::uint32_t go = mode & 0777;
  switch (mode & S_IFMT) {
    case S_IFDIR: go |= go_mode::dir; break;
    case S_IFLNK: go |= go_mode::symlink; break;
    case S_IFBLK: go |= go_mode::device; break;
    case S_IFCHR: go |= go_mode::device | go_mode::char_device; break;
    case S_IFIFO: go |= go_mode::named_pipe; break;
    case S_IFSOCK: go |= go_mode::socket; break;
    default: break;
  }
  if (mode & S_ISUID) go |= go_mode::setuid;
  if (mode & S_ISGID) go |= go_mode::setgid;
  if (mode & S_ISVTX) go |= go_mode::sticky;
  return go;
}

mode_t permission_bits(std::uint32_t go) {
  mode_t mode = go & go_mode::permissions;
  if (go & go_mode::setuid) mode |= S_ISUID;
  if (go & go_mode::setgid) mode |= S_ISGID;
  if (go & go_mode::sticky) mode |= S_ISVTX;
  return mode;
}

mode_t file_type(std::uint32_t go) {
  if (go & go_mode::dir) return S_IFDIR;
  if (go & go_mode::symlink) return S_IFLNK;
  if (go & go_mode::char_device) return S_IFCHR;
  if (go & go_mode::device) return S_IFBLK;
  if (go & go_mode::named_pipe) return S_IFIFO;
  if (go & go_mode::socket) return S_IFSOCK;
  return S_IFREG;
}

int compare_paths(std::string_view a, std::string_view b) {
  std::size_t n = std::min(a.size(), b.size());
  for (std::size_t i = 0; i < n; ++i) {
    if (a[i] == b[i]) continue;
    if (a[i] == '/') return -1;
    if (b[i] == '/') return 1;
    return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[i]) ? -1 : 1;
  }
  return a.size() < b.size() ? -1 : (a.size() > b.size() ? 1 : 0);
}

namespace {

// xattr calls that never follow a link and never take a long path: /proc/self/fd/<dir>/<name>.
std::string proc_path(int dir_fd, const char* name) {
  if (dir_fd == AT_FDCWD) return name;
  return "/proc/self/fd/" + std::to_string(dir_fd) + "/" + name;
}

// What is not supported, not ours to read or gone by now has no xattrs; any other failure is one.
bool has_no_xattr(int err) {
  return err == ENOTSUP || err == ENODATA || err == ENOENT || err == ENOTDIR || err == EPERM || err == EACCES;
}

/// `follow`: the path is a descriptor's in /proc, a link to what it stands for.
status read_xattrs(const std::string& path, bool follow, file_stat& out) {
  auto list_names = follow ? ::listxattr : ::llistxattr;
  auto get_value = follow ? ::getxattr : ::lgetxattr;
  auto failed = [&](int err) { return errno_error(err, "xattrs of " + out.path()); };
  std::array<char, 1024> small{};
  ssize_t n = list_names(path.c_str(), small.data(), small.size());
  if (n == 0) return {};
  std::vector<char> large;
  std::string_view names;
  if (n > 0) {
    names = {small.data(), static_cast<std::size_t>(n)};
  } else {
    if (has_no_xattr(errno)) return {};
    if (errno != ERANGE) return failed(errno);
    large.resize(configs::max_xattr_list_size);
    n = list_names(path.c_str(), large.data(), large.size());
    if (n == 0 || (n < 0 && has_no_xattr(errno))) return {};
    if (n < 0) return failed(errno);
    names = {large.data(), static_cast<std::size_t>(n)};
  }
  std::string value;
  while (!names.empty()) {
    std::size_t end = names.find('\0');
    if (end == std::string_view::npos) break;
    std::string key(names.substr(0, end));
    names.remove_prefix(end + 1);
    if (key.starts_with("com.apple.") || store::is_overlay_xattr(key)) continue;
    value.resize(256);
    ssize_t size = get_value(path.c_str(), key.c_str(), value.data(), value.size());
    if (size < 0 && errno == ERANGE) {
      value.resize(configs::max_xattr_value_size);
      size = get_value(path.c_str(), key.c_str(), value.data(), value.size());
    }
    if (size < 0 && has_no_xattr(errno)) continue;
    if (size < 0) return failed(errno);
    value.resize(static_cast<std::size_t>(size));
    (*out.mutable_xattrs())[key] = value;
  }
  return {};
}

}  // namespace

void fill_plain(const struct stat& st, std::string_view path, file_stat& out) {
  out.Clear();
  out.set_path(std::string(path));
  out.set_mode(to_go_mode(st.st_mode) & ~go_mode::socket);
  out.set_uid(st.st_uid);
  out.set_gid(st.st_gid);
  out.set_modtime(st.st_mtim.tv_sec * 1'000'000'000LL + st.st_mtim.tv_nsec);
  if (!S_ISDIR(st.st_mode)) out.set_size(st.st_size);
  if (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode)) {
    out.set_devmajor(major(st.st_rdev));
    out.set_devminor(minor(st.st_rdev));
  }
}

status fill_link(int dir_fd, const char* name, std::string_view path, file_stat& out) {
  std::array<char, 4097> target{};
  ssize_t n = ::readlinkat(dir_fd, name, target.data(), target.size() - 1);
  if (n < 0) return errno_error(errno, "readlink " + std::string(path));
  out.set_linkname(std::string(target.data(), static_cast<std::size_t>(n)));
  return {};
}

status fill_stat(int dir_fd, const char* name, const struct stat& st, std::string_view path, file_stat& out) {
  fill_plain(st, path, out);
  if (S_ISLNK(st.st_mode)) KILN_CHECK(fill_link(dir_fd, name, path, out));
  return read_xattrs(proc_path(dir_fd, name), false, out);
}

status fill_stat(int fd, const struct stat& st, std::string_view path, file_stat& out) {
  fill_plain(st, path, out);
  if (S_ISLNK(st.st_mode)) KILN_CHECK(fill_link(fd, "", path, out));
  return read_xattrs("/proc/self/fd/" + std::to_string(fd), true, out);
}

}  // namespace kiln::filesync
