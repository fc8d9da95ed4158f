// The walk of a directory on disk, with include and exclude patterns applied before anything is statted.
#include "filesync/tree.hpp"
#include "store/files/regular_file.hpp"

#include <algorithm>
#include <cerrno>
#include <unordered_map>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/quoting.hpp"
#include "store/files/file_data.hpp"

namespace kiln::filesync {

namespace {

struct name_entry {
  std::string name;
  unsigned char type = DT_UNKNOWN;
};

// How deep directories stay open while their children are walked; deeper ones are opened again.
constexpr std::size_t max_open_depth = 64;

std::string without_trailing_glob(std::string text) {
  if (text.ends_with("/**")) text.resize(text.size() - 3);
  if (text.ends_with("/*")) text.resize(text.size() - 2);
  return text;
}

// One pattern list with what decides whether a whole directory can be skipped.
struct filter_side {
  pattern_list list;
  bool prefixes_only = true;          // the patterns that could match deeper are plain paths
  std::vector<std::string> prefixes;  // those, with a trailing slash

  static result<filter_side> make(const std::vector<std::string>& patterns, bool exclusions_matter,
                                  std::string_view what) {
    filter_side side;
    auto list = pattern_list::compile(patterns);
    if (!list)
      return make_error(errc::invalid_argument, "invalid " + std::string(what) + ": " + bracketed(patterns) +
                                                    ": " + list.error().message);
    side.list = *std::move(list);
    for (std::size_t i = 0; i < side.list.size(); ++i) {
      if (side.list.is_exclusion(i) != exclusions_matter) continue;
      std::string text = without_trailing_glob(side.list.text(i));
      if (text.find_first_of("*[]?^\\") != std::string::npos) side.prefixes_only = false;
      side.prefixes.push_back(text + "/");
    }
    return side;
  }

  bool could_match_below(const std::string& dir) const {
    if (!prefixes_only) return true;
    std::string slash = dir + "/";
    return std::any_of(prefixes.begin(), prefixes.end(),
                       [&](const std::string& p) { return p.starts_with(slash); });
  }
};

struct frame {
  unique_fd fd;
  std::string path;  // "" for the root
  std::vector<name_entry> names;
  std::size_t next = 0;
  pattern_list::match_info include_info;
  pattern_list::match_info exclude_info;
  bool told = false;     // the visitor (or the map function) has seen this directory
  bool dropped = false;  // the map function said skip_directory when it was told late
};

class directory_tree final : public file_tree {
 public:
  directory_tree(unique_fd root, walk_options options)
      : root_(std::move(root)), options_(std::move(options)) {}

  status prepare() {
    std::vector<std::string> includes = options_.include_patterns;
    if (!options_.follow_paths.empty()) {
      KILN_TRY(auto targets, follow_links(root_.get(), options_.follow_paths));
      if (!targets.empty()) {
        includes.insert(includes.end(), targets.begin(), targets.end());
        if (std::find(includes.begin(), includes.end(), ".") != includes.end()) includes.clear();
      }
    }
    KILN_TRY(include_, filter_side::make(includes, false, "includepatterns"));
    KILN_TRY(exclude_, filter_side::make(options_.exclude_patterns, true, "excludepatterns"));
    return {};
  }

  status walk(const stat_visitor& visit, std::stop_token stop) override {
    inodes_.clear();
    std::vector<frame> stack;
    stack.emplace_back();
    stack.back().told = true;
    KILN_CHECK(enter(stack));
    while (!stack.empty()) {
      if (stop.stop_requested()) return make_error(errc::cancelled, "context canceled");
      frame& top = stack.back();
      if (top.next == top.names.size()) {
        stack.pop_back();
        continue;
      }
      name_entry name = std::move(top.names[top.next++]);
      KILN_CHECK(one(stack, name, visit));
    }
    return {};
  }

  result<std::unique_ptr<store::byte_source>> open(const std::string& path) override {
    if ((!include_.list.empty() && !include_.list.matches(path)) ||
        (!exclude_.list.empty() && exclude_.list.matches(path))) {
      return make_error(errc::not_found, "open " + path + ": no such file or directory");
    }
    unique_fd there(open_beneath(root_.get(), path, O_PATH));
    if (!there) return errno_error(errno, "open " + path);
    KILN_TRY(auto fd, store::open_regular(there.get(), "open " + path));
    return store::read_file_data(std::move(fd));
  }

 private:
  // Opens and lists the directory on top of the stack; pops it when it has gone meanwhile.
  status enter(std::vector<frame>& stack) {
    frame& f = stack.back();
    int fd = f.path.empty() ? ::openat(root_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                            : open_beneath(root_.get(), f.path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
      int err = errno;
      bool gone = err == ENOENT || err == ENOTDIR || err == ELOOP;
      bool was_skipped = !f.told && err == EACCES;
      std::string path = f.path;
      stack.pop_back();
      if (gone || was_skipped) return {};
      return errno_error(err, "open " + path);
    }
    f.fd.reset(fd);
    int listing = ::openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR* dir = listing < 0 ? nullptr : ::fdopendir(listing);
    if (dir == nullptr) {
      int err = errno;
      if (listing >= 0) ::close(listing);
      return errno_error(err, "open " + f.path);
    }
    while (const dirent* e = ::readdir(dir)) {
      std::string_view name = e->d_name;
      if (name == "." || name == "..") continue;
      f.names.push_back({std::string(name), e->d_type});
    }
    ::closedir(dir);
    std::sort(f.names.begin(), f.names.end(),
              [](const name_entry& a, const name_entry& b) { return a.name < b.name; });
    if (stack.size() > max_open_depth) stack[stack.size() - 2].fd.reset();
    return {};
  }

  static int fd_of(frame& f, int root) {
    if (!f.fd) f.fd.reset(open_beneath(root, f.path, O_RDONLY | O_DIRECTORY));
    return f.fd.get();
  }

  // Stats and tells an entry. kept = whether the map function kept it.
  result<map_verdict> tell(int dir_fd, const std::string& name, const std::string& path,
                           const struct stat& st, const stat_visitor& visit) {
    file_stat entry;
    KILN_CHECK(fill_stat(dir_fd, name.c_str(), st, path, entry));
    if (options_.map) {
      map_verdict verdict = options_.map(entry);
      if (verdict != map_verdict::keep) return verdict;
    }
    if (!S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode) && st.st_nlink > 1) {
      auto [it, first] = inodes_.try_emplace({st.st_dev, st.st_ino}, entry.path());
      if (!first) entry.set_linkname(it->second);
    }
    KILN_CHECK(visit(std::move(entry)));
    return map_verdict::keep;
  }

  // Tells directories that were passed over until something inside them matched. False = drop all.
  result<bool> tell_parents(std::vector<frame>& stack, const stat_visitor& visit) {
    for (std::size_t i = 1; i < stack.size(); ++i) {
      frame& f = stack[i];
      if (f.dropped) return false;
      if (f.told) continue;
      struct stat st {};
      int fd = fd_of(f, root_.get());
      if (fd < 0 || ::fstat(fd, &st) != 0) return false;  // gone meanwhile
      int parent = fd_of(stack[i - 1], root_.get());
      std::string name = f.path.substr(f.path.rfind('/') + 1);
      KILN_TRY(map_verdict verdict, tell(parent, name, f.path, st, visit));
      if (verdict == map_verdict::skip_directory) {
        f.dropped = true;
        return false;
      }
      if (verdict == map_verdict::keep) f.told = true;
    }
    return true;
  }

  status one(std::vector<frame>& stack, const name_entry& entry, const stat_visitor& visit) {
    frame& top = stack.back();
    std::string path = top.path.empty() ? entry.name : top.path + "/" + entry.name;
    int dir_fd = fd_of(top, root_.get());
    if (dir_fd < 0) return {};
    struct stat st {};
    bool have_stat = false;
    bool is_directory = entry.type == DT_DIR;
    if (entry.type == DT_UNKNOWN) {
      if (::fstatat(dir_fd, entry.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return {};
      have_stat = true;
      is_directory = S_ISDIR(st.st_mode);
    }
    frame child;
    bool skip = false;
    if (!include_.list.empty() && !include_.list.matches(path, top.include_info, child.include_info)) {
      if (is_directory && !include_.could_match_below(path)) return {};
      skip = true;
    }
    if (!exclude_.list.empty() && exclude_.list.matches(path, top.exclude_info, child.exclude_info)) {
      if (is_directory && (!exclude_.list.has_exclusions() || !exclude_.could_match_below(path))) return {};
      skip = true;
    }
    if (!skip) {
      if (!have_stat && ::fstatat(dir_fd, entry.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT || errno == ENOTDIR) return {};
        return errno_error(errno, "lstat " + path);
      }
      is_directory = S_ISDIR(st.st_mode);
      KILN_TRY(bool wanted, tell_parents(stack, visit));
      if (!wanted) {
        top.next = top.names.size();
        return {};
      }
      child.told = true;
      KILN_TRY(map_verdict verdict, tell(dir_fd, entry.name, path, st, visit));
      if (verdict == map_verdict::skip_directory) {
        if (!is_directory) top.next = top.names.size();
        return {};
      }
    }
    if (is_directory) {
      child.path = std::move(path);
      stack.push_back(std::move(child));
      KILN_CHECK(enter(stack));
    }
    return {};
  }

  struct inode_hash {
    std::size_t operator()(const std::pair<dev_t, ino_t>& key) const noexcept {
      return std::hash<std::uint64_t>()(key.second * 0x9E3779B97F4A7C15ULL ^ key.first);
    }
  };

  unique_fd root_;
  walk_options options_;
  filter_side include_;
  filter_side exclude_;
  std::unordered_map<std::pair<dev_t, ino_t>, std::string, inode_hash> inodes_;  // first name of each
};

}  // namespace

result<std::unique_ptr<file_tree>> open_directory(unique_fd root, walk_options options) {
  auto tree = std::make_unique<directory_tree>(std::move(root), std::move(options));
  KILN_CHECK(tree->prepare());
  return std::unique_ptr<file_tree>(std::move(tree));
}

result<std::unique_ptr<file_tree>> open_directory(const std::string& root, walk_options options) {
  unique_fd fd(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return errno_error(errno, "open " + root);
  return open_directory(std::move(fd), std::move(options));
}

}  // namespace kiln::filesync
