// Which paths a list of paths leads to when symlinks are resolved inside a root.
#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <set>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/slash_path.hpp"
#include "filesync/tree.hpp"

namespace kiln::filesync {

namespace {

constexpr int max_link_depth = 255;

std::string parent_of(const std::string& path) {
  std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string base_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

class resolver {
 public:
  explicit resolver(int root) : root_(root) {}

  status add(const std::string& path, int depth) {
    if (depth > max_link_depth)
      return make_error(errc::invalid_argument, "too many levels of symbolic links: " + path);
    std::string rest = path_join(".", path);
    std::string current = ".";
    while (true) {
      std::size_t slash = rest.find('/');
      current = path_join(current, rest.substr(0, slash));
      rest = slash == std::string::npos ? "" : rest.substr(slash + 1);
      KILN_TRY(auto targets, links_at(current, true));
      if ((rest.empty() || !targets.empty()) && resolved.contains(current)) return {};
      if (!targets.empty()) {
        resolved.insert(current);
        for (const auto& target : targets) KILN_CHECK(add(path_join(target, rest), depth + 1));
        return {};
      }
      if (rest.empty()) {
        resolved.insert(current);
        return {};
      }
    }
  }

  std::set<std::string> resolved;

 private:
  unique_fd open_parent(const std::string& dir) const {
    if (dir == ".") return unique_fd(::openat(root_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return unique_fd(open_beneath(root_, dir, O_RDONLY | O_DIRECTORY));
  }

  // Where the symlink (or each symlink a wildcard matches) points; absolute, inside the root.
  result<std::vector<std::string>> links_at(const std::string& path, bool allow_wildcard) {
    std::vector<std::string> out;
    if (path == "." || path == ".." || path.starts_with("../")) return out;
    unique_fd parent = open_parent(parent_of(path));
    if (!parent) return out;
    std::string base = base_of(path);
    if (allow_wildcard && has_wildcard(base)) {
      auto pattern = path_pattern::compile(base, path_pattern::dialect::match);
      if (!pattern) return out;
      DIR* dir = ::fdopendir(parent.release());
      if (dir == nullptr) return out;
      std::vector<std::string> names;
      while (const dirent* e = ::readdir(dir)) {
        std::string name = e->d_name;
        if (name != "." && name != ".." && pattern->matches(name)) names.push_back(std::move(name));
      }
      ::closedir(dir);
      std::sort(names.begin(), names.end());
      for (const auto& name : names) {
        KILN_TRY(auto one, links_at(path_join(parent_of(path), name), false));
        out.insert(out.end(), one.begin(), one.end());
      }
      return out;
    }
    std::array<char, 4097> target{};
    ssize_t n = ::readlinkat(parent.get(), base.c_str(), target.data(), target.size() - 1);
    if (n < 0) return out;  // no symlink, or not there
    std::string link(target.data(), static_cast<std::size_t>(n));
    if (link.starts_with('/')) {
      out.push_back(clean_absolute(link));
    } else {
      out.push_back(clean_absolute(parent_of(path) + "/" + link));
    }
    return out;
  }

  int root_;
};

}  // namespace

result<std::vector<std::string>> follow_links(int root_fd, const std::vector<std::string>& paths) {
  resolver r(root_fd);
  for (const auto& path : paths) KILN_CHECK(r.add(path, 0));
  std::vector<std::string> out;
  for (const auto& path : r.resolved) {  // sorted
    if (path == ".") return std::vector<std::string>{};
    if (!out.empty() && path.starts_with(out.back() + "/")) continue;
    out.push_back(path);
  }
  return out;
}

}  // namespace kiln::filesync
