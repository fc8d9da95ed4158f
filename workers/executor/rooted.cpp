#include "workers/executor/rooted.hpp"

#include <array>
#include <cerrno>
#include <deque>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/pattern.hpp"
#include "store/files/regular_file.hpp"

namespace kiln::workers {

namespace {

constexpr int max_links = 255;

std::deque<std::string> components(std::string_view path) {
  std::deque<std::string> parts;
  while (!path.empty()) {
    std::size_t slash = path.find('/');
    std::string_view part = path.substr(0, slash);
    if (!part.empty() && part != ".") parts.emplace_back(part);
    path = slash == std::string_view::npos ? "" : path.substr(slash + 1);
  }
  return parts;
}

}  // namespace

int open_in_root(int root_fd, const std::string& path, int flags, mode_t mode) {
  if (path.find('\0') != std::string::npos) {  // the kernel would open what stands before it
    errno = EINVAL;
    return -1;
  }
  struct open_how how {};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.mode = (flags & O_CREAT) != 0 ? mode : 0;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  const char* name = path.empty() ? "." : path.c_str();
  for (int attempt = 0;; ++attempt) {
    long fd = ::syscall(SYS_openat2, root_fd, name, &how, sizeof how);
    if (fd >= 0) return static_cast<int>(fd);
    if ((errno != EAGAIN && errno != EINTR) || attempt > 100) return -1;
  }
}

result<std::string> resolve_in_root(int root_fd, std::string_view path) {
  std::deque<std::string> todo = components(path);
  std::vector<std::string> done;
  int links = 0;
  bool missing = false;
  auto text = [&done] {
    std::string s;
    for (const auto& part : done) s += "/" + part;
    return s.empty() ? std::string("/") : s;
  };
  while (!todo.empty()) {
    std::string part = std::move(todo.front());
    todo.pop_front();
    if (part == "..") {
      if (!done.empty()) done.pop_back();
      missing = false;
      continue;
    }
    done.push_back(part);
    if (missing) continue;
    std::string here = text();
    std::array<char, 4097> target{};
    unique_fd parent(done.size() == 1
                         ? ::openat(root_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC)
                         : open_in_root(root_fd, here.substr(0, here.rfind('/')), O_PATH | O_DIRECTORY));
    if (!parent) {
      missing = true;
      continue;
    }
    ssize_t n = ::readlinkat(parent.get(), part.c_str(), target.data(), target.size() - 1);
    if (n < 0) {
      if (errno == ENOENT || errno == ENOTDIR) missing = true;
      continue;
    }
    if (++links > max_links) {
      return make_error(errc::failed_precondition, "too many levels of symbolic links: " + std::string(path));
    }
    std::string_view link(target.data(), static_cast<std::size_t>(n));
    done.pop_back();
    if (link.starts_with('/')) done.clear();
    auto more = components(link);
    todo.insert(todo.begin(), more.begin(), more.end());
  }
  return text();
}

result<unique_fd> make_directories_in_root(int root_fd, std::string_view path, mode_t mode, uid_t uid,
                                           gid_t gid, std::vector<std::string>* made) {
  KILN_TRY(std::string resolved, resolve_in_root(root_fd, path));
  unique_fd current(::openat(root_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!current) return errno_error(errno, "open /");
  std::string so_far;
  for (const std::string& part : components(resolved)) {
    so_far += "/" + part;
    bool created = ::mkdirat(current.get(), part.c_str(), mode) == 0;
    if (!created && errno != EEXIST) return errno_error(errno, "mkdir " + so_far);
    unique_fd next(::openat(current.get(), part.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!next) return errno_error(errno, "mkdir " + so_far);
    if (created) {
      if (::fchownat(next.get(), "", uid, gid, AT_EMPTY_PATH) != 0)
        return errno_error(errno, "chown " + so_far);
      // chmod by name: the umask took bits from mkdirat's mode, and O_PATH knows no fchmod.
      if (::fchmodat(current.get(), part.c_str(), mode, AT_SYMLINK_NOFOLLOW) != 0)
        return errno_error(errno, "chmod " + so_far);
      if (made != nullptr) made->push_back(so_far);
    }
    current = std::move(next);
  }
  return current;
}

result<std::string> read_file_in_root(int root_fd, const std::string& path, std::size_t limit) {
  KILN_TRY(auto fd, store::open_regular_in_root(root_fd, path));
  std::string text;
  std::array<char, 16384> buffer{};
  while (true) {
    ssize_t n = ::read(fd.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error(errno, "read " + path);
    if (n == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(n));
    if (text.size() > limit) {
      return make_error(errc::failed_precondition,
                        "\"" + path + "\" exceeds " + std::to_string(limit) + " bytes");
    }
  }
}

}  // namespace kiln::workers
