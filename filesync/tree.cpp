#include "filesync/tree.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <set>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>

#include "base/slash_path.hpp"

namespace kiln::filesync {

namespace {

int open_by_component(int root_fd, std::string_view path, int flags, mode_t mode) {
  unique_fd current;
  int at = root_fd;
  while (true) {
    std::size_t slash = path.find('/');
    std::string part(path.substr(0, slash));
    if (part == "..") {
      errno = EXDEV;
      return -1;
    }
    if (slash == std::string_view::npos) return ::openat(at, part.c_str(), flags | O_NOFOLLOW, mode);
    int next = ::openat(at, part.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0) return -1;
    current.reset(next);
    at = next;
    path.remove_prefix(slash + 1);
  }
}

// Several trees, each under a directory entry of its own.
class joined_tree final : public file_tree {
 public:
  explicit joined_tree(std::vector<sub_tree> trees) : trees_(std::move(trees)) {}

  status walk(const stat_visitor& visit, std::stop_token stop) override {
    for (auto& sub : trees_) {
      const std::string& name = sub.directory.path();
      KILN_CHECK(visit(file_stat(sub.directory)));
      auto nested = [&](file_stat&& entry) -> status {
        if (!entry.linkname().empty()) {
          if (!is_symlink(entry)) {
            entry.set_linkname(name + "/" + entry.linkname());
          } else if (entry.linkname().starts_with('/')) {
            entry.set_linkname(clean_absolute(name + "/" + entry.linkname()));
          }
        }
        entry.set_path(name + "/" + entry.path());
        return visit(std::move(entry));
      };
      KILN_CHECK(sub.tree->walk(nested, stop));
    }
    return {};
  }

  result<std::unique_ptr<store::byte_source>> open(const std::string& path) override {
    std::size_t slash = path.find('/');
    std::string_view name = std::string_view(path).substr(0, slash);
    for (auto& sub : trees_) {
      if (sub.directory.path() == name && slash != std::string::npos) {
        return sub.tree->open(path.substr(slash + 1));
      }
    }
    return make_error(errc::not_found, "open " + path + ": no such file or directory");
  }

 private:
  std::vector<sub_tree> trees_;  // sorted by name
};

}  // namespace

int open_beneath(int root_fd, const std::string& path, int flags, mode_t mode) {
  static std::atomic<bool> have_openat2{true};
  flags |= O_CLOEXEC;
  if (have_openat2.load(std::memory_order_relaxed)) {
    struct open_how how {};
    how.flags = static_cast<std::uint64_t>(flags);
    how.mode = (flags & O_CREAT) != 0 ? mode : 0;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    while (true) {
      long fd = ::syscall(SYS_openat2, root_fd, path.c_str(), &how, sizeof how);
      if (fd >= 0) return static_cast<int>(fd);
      if (errno == EAGAIN || errno == EINTR) continue;  // something was renamed meanwhile
      if (errno != ENOSYS && errno != EPERM) return -1;
      break;
    }
    if (errno == ENOSYS) have_openat2 = false;
  }
  return open_by_component(root_fd, path, flags, mode);
}

result<std::unique_ptr<file_tree>> join_trees(std::vector<sub_tree> trees) {
  std::set<std::string> seen;
  for (const auto& sub : trees) {
    const std::string& name = sub.directory.path();
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos) {
      return make_error(errc::invalid_argument, "invalid path " + name + ": is a directory");
    }
    if (!is_dir(sub.directory)) {
      return make_error(errc::invalid_argument, "walk subdir " + name + ": not a directory");
    }
    if (!seen.insert(name).second) {
      return make_error(errc::invalid_argument, "duplicate path " + name + ": file exists");
    }
  }
  std::sort(trees.begin(), trees.end(),
            [](const sub_tree& a, const sub_tree& b) { return a.directory.path() < b.directory.path(); });
  return std::unique_ptr<file_tree>(std::make_unique<joined_tree>(std::move(trees)));
}

}  // namespace kiln::filesync
