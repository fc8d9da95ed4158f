// Seeded random trees of every kind of file, and what a tree is, read back with nothing but system calls:
// what the property tests of files compare. Knows none of the code under test.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace kiln::test {

/// What one entry of a tree is. Times and links that do not matter in a comparison are taken out of both
/// sides.
struct tree_entry {
  mode_t type = 0;
  mode_t mode = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  std::optional<std::int64_t> mtime_ns;
  std::string text;  // content, or the link's target
  dev_t device = 0;
  std::map<std::string, std::string> xattrs;
  std::string same_as;  // the first name of the same file, when that is another one
  bool operator==(const tree_entry&) const = default;
};

/// By path without leading slash; the root itself is not in it.
using tree = std::map<std::string, tree_entry>;

class tree_scanner {
 public:
  explicit tree_scanner(std::filesystem::path top) : top_(std::move(top)) {}
  tree scan() {
    walk("");
    return std::move(all_);
  }
  tree_entry entry(const std::string& path) const {
    auto full = (top_ / path).string();
    struct stat st {};
    check(::lstat(full.c_str(), &st), "lstat " + full);
    tree_entry e;
    e.type = st.st_mode & S_IFMT;
    if (!S_ISLNK(st.st_mode)) e.mode = st.st_mode & 07777;
    e.uid = st.st_uid;
    e.gid = st.st_gid;
    e.mtime_ns = st.st_mtim.tv_sec * 1'000'000'000LL + st.st_mtim.tv_nsec;
    if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) e.device = st.st_rdev;
    if (S_ISLNK(st.st_mode)) {
      e.text.resize(8192);
      auto n = ::readlink(full.c_str(), e.text.data(), e.text.size());
      check(static_cast<int>(n), "readlink " + full);
      e.text.resize(static_cast<std::size_t>(n));
    } else if (S_ISREG(st.st_mode)) {
      int fd = ::open(full.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
      check(fd, "open " + full);
      e.text.resize(static_cast<std::size_t>(st.st_size));
      std::size_t at = 0;
      while (at < e.text.size()) {
        auto n = ::read(fd, e.text.data() + at, e.text.size() - at);
        if (n <= 0) break;
        at += static_cast<std::size_t>(n);
      }
      ::close(fd);
      if (at != e.text.size()) throw std::runtime_error("short file " + full);
    }
    std::vector<char> names(65536), value(65536);
    auto size = ::llistxattr(full.c_str(), names.data(), names.size());
    for (ssize_t at = 0; at < size;) {
      std::string name = names.data() + at;
      at += static_cast<ssize_t>(name.size()) + 1;
      if (name.find(".overlay.") != std::string::npos) continue;
      auto n = ::lgetxattr(full.c_str(), name.c_str(), value.data(), value.size());
      if (n >= 0) e.xattrs[name] = std::string(value.data(), static_cast<std::size_t>(n));
    }
    return e;
  }

 private:
  static void check(int result, const std::string& what) {
    if (result < 0) throw std::runtime_error(what + ": " + std::to_string(errno));
  }
  void walk(const std::string& below) {
    DIR* dir = ::opendir((top_ / below).c_str());
    if (!dir) throw std::runtime_error("opendir " + below);
    std::vector<std::string> names;
    while (auto* d = ::readdir(dir)) names.emplace_back(d->d_name);
    ::closedir(dir);
    std::sort(names.begin(), names.end());
    for (const auto& name : names) {
      if (name == "." || name == "..") continue;
      auto path = below.empty() ? name : below + "/" + name;
      auto e = entry(path);
      struct stat st {};
      check(::lstat((top_ / path).c_str(), &st), "lstat");
      if (!S_ISDIR(st.st_mode) && st.st_nlink > 1) {
        auto [first, fresh] = inodes_.try_emplace({st.st_dev, st.st_ino}, path);
        if (!fresh) e.same_as = first->second;
      }
      auto is_directory = e.type == S_IFDIR;
      all_[path] = std::move(e);
      if (is_directory) walk(path);
    }
  }

  std::filesystem::path top_;
  tree all_;
  std::map<std::pair<dev_t, ino_t>, std::string> inodes_;
};

inline tree scan_tree(const std::filesystem::path& top) { return tree_scanner(top).scan(); }

/// The differences, one a line, for people.
inline std::string tree_difference(const tree& got, const tree& expected) {
  std::string out;
  auto show = [](const std::string& s) {
    std::string text;
    for (unsigned char c : s.substr(0, 60)) {
      char code[8];
      if (c >= 0x20 && c < 0x7f) text += static_cast<char>(c);
      else std::snprintf(code, sizeof code, "\\x%02x", c), text += code;
    }
    return text;
  };
  auto line = [&](const tree_entry& e) {
    char head[160];
    std::snprintf(head, sizeof head, "%06o %u:%u %s dev=%x size=%zu", e.type | e.mode, e.uid, e.gid,
                  e.mtime_ns ? std::to_string(*e.mtime_ns).c_str() : "any", static_cast<unsigned>(e.device),
                  e.text.size());
    std::string text = head;
    if (e.type == S_IFLNK) text += " -> " + show(e.text);
    if (!e.same_as.empty()) text += " same as " + show(e.same_as);
    for (const auto& [k, v] : e.xattrs) text += " " + show(k) + "=" + show(v);
    return text;
  };
  for (const auto& [path, e] : expected) {
    auto there = got.find(path);
    if (there == got.end()) out += "missing " + show(path) + ": " + line(e) + "\n";
    else if (!(there->second == e))
      out += show(path) + ": got " + line(there->second) + "\n     expected " + line(e) +
             (there->second.text != e.text ? "  (content differs)" : "") + "\n";
  }
  for (const auto& [path, e] : got)
    if (!expected.contains(path)) out += "unexpected " + show(path) + ": " + line(e) + "\n";
  return out;
}

/// Applies a function to every entry: takes out what a comparison does not look at.
template <class Change>
tree changed(tree t, Change change) {
  for (auto& [path, e] : t) change(path, e);
  return t;
}

/// Makes trees and changes them at random, in directories on disk. Root's rights are needed.
class tree_maker {
 public:
  struct options {
    bool specials = true;         // fifos and devices
    bool linked_specials = true;  // second names of anything but regular files
    bool plain_times = false;     // whole seconds since 1970
    bool xattrs = true;
  };
  explicit tree_maker(std::uint64_t seed) : tree_maker(seed, options{}) {}
  tree_maker(std::uint64_t seed, options o) : options_(o), random_(seed) {}

  std::uint64_t below(std::uint64_t n) { return n == 0 ? 0 : random_() % n; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }

  /// Fills a directory.
  void fill(const std::filesystem::path& top, std::size_t entries) {
    directories_ = {""};
    files_.clear();
    for (std::size_t i = 0; i < entries; ++i) add(top);
    finish(top);
  }

  /// Changes some of what is there: adds, removes, replaces, renames, links, rewrites and touches.
  void mutate(const std::filesystem::path& top, std::size_t changes) {
    for (std::size_t i = 0; i < changes; ++i) {
      remember(top);
      auto victim = any(top);
      switch (below(9)) {
        case 0:
        case 1: add(top); break;
        case 2:
          if (!victim.empty()) std::filesystem::remove_all(top / victim);
          break;
        case 3:
          if (!victim.empty()) {  // something else in its place
            std::filesystem::remove_all(top / victim);
            remember(top);
            make(top, victim);
          }
          break;
        case 4:
          if (!victim.empty()) {
            auto fresh = place(top);
            std::error_code ignored;
            if (!fresh.starts_with(victim + "/")) std::filesystem::rename(top / victim, top / fresh, ignored);
          }
          break;
        case 5:
          if (!victim.empty()) dress(top / victim);
          break;
        case 6:
          if (!victim.empty() &&
              std::filesystem::is_regular_file(std::filesystem::symlink_status(top / victim)))
            write(top / victim);
          break;
        case 7:  // away and made again with one thing in it: opaque in a layer
          if (!victim.empty() &&
              std::filesystem::is_directory(std::filesystem::symlink_status(top / victim))) {
            std::filesystem::remove_all(top / victim);
            std::filesystem::create_directory(top / victim);
            dress(top / victim);
            remember(top);
            auto inside = victim + "/" + name();
            if (::access((top / inside).c_str(), F_OK) != 0) make(top, inside);
          }
          break;
        default: link(top); break;
      }
    }
    finish(top);
  }

  std::string name() {
    static const std::vector<std::string> pool{
        "a",        "b",        "c",       "dir",        "file.txt",  "x.c",         "y.c",
        "sp ace",   "\xff\xfe", "lat\xe9", "sp\xc3\xa4", "new\nline", "back\\slash", "*",
        "[x]",      "?",        "-dash",   "..x",        ".hidden",   "tab\t",       "\xed\xa0\x80",
        "quote\"'", "#",        "!",       "a=b",        "%41",       "\x01",        "wh.x",
        "....",     "~",        ".tmp.1",  "Z",          "\xc3",      "$(x)"};
    if (one_in(40)) return std::string(200 + below(56), static_cast<char>('a' + below(26)));
    auto n = pool[below(pool.size())];
    if (one_in(2)) n += std::to_string(below(30));
    return n;
  }

  uid_t owner() {
    static constexpr uid_t some[]{0, 0, 1, 1000, 65534, 100000, 2147483647u, 4294967294u};
    return some[below(std::size(some))];
  }

  std::int64_t time() {
    auto seconds = static_cast<std::int64_t>(below(4'000'000'000));
    if (options_.plain_times) return seconds * 1'000'000'000;
    if (one_in(20)) seconds = -static_cast<std::int64_t>(below(1'000'000));
    return seconds * 1'000'000'000 + (one_in(3) ? 0 : static_cast<std::int64_t>(below(1'000'000'000)));
  }

 private:
  using path = std::filesystem::path;

  std::string place(const path& top) {
    for (int i = 0; i < 20; ++i) {
      auto directory = directories_[below(directories_.size())];
      auto full = directory.empty() ? name() : directory + "/" + name();
      struct stat st {};
      if (full.size() < 900 && ::lstat((top / full).c_str(), &st) != 0 && errno == ENOENT) return full;
    }
    static std::uint64_t number = 0;
    return "fresh" + std::to_string(++number);
  }

  void add(const path& top) { make(top, place(top)); }

  void make(const path& top, const std::string& at) {
    auto full = top / at;
    switch (below(options_.specials ? 12 : 10)) {
      case 0:
      case 1:
      case 2:
        if (::mkdir(full.c_str(), 0755) == 0) directories_.push_back(at);
        break;
      case 3: {
        static const std::vector<std::string> targets{"a",  "../a",    "/etc/passwd",  "../../../../../../x",
                                                      ".",  "/",       "lat\xe9/\xff", "nowhere/at all",
                                                      "..", "dir/../b"};
        auto target = one_in(15) ? std::string(3000, 'l') : targets[below(targets.size())];
        if (::symlink(target.c_str(), full.c_str()) != 0) throw std::runtime_error("symlink");
        break;
      }
      case 4: link(top); return;
      case 10:
        if (::mkfifo(full.c_str(), 0600) != 0) throw std::runtime_error("mkfifo");
        break;
      case 11:
        if (::mknod(full.c_str(), (one_in(2) ? S_IFCHR : S_IFBLK) | 0600,
                    makedev(1 + below(300), below(70000))) != 0)
          throw std::runtime_error("mknod");
        break;
      default: write(full); files_.push_back(at);
    }
    dress(full);
  }

  void write(const path& full) {
    int fd = ::open(full.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0) throw std::runtime_error("open " + full.string());
    auto blocks = one_in(4) ? 0 : 1 + below(3);
    for (std::uint64_t i = 0; i < blocks; ++i) {
      if (one_in(3)) ::lseek(fd, static_cast<off_t>(below(200'000)), SEEK_CUR);  // a hole
      std::string bytes(1 + below(one_in(6) ? 70'000 : 600), static_cast<char>(random_()));
      for (std::size_t k = 0; k < bytes.size(); k += 7) bytes[k] = static_cast<char>(random_());
      if (::write(fd, bytes.data(), bytes.size()) < 0) throw std::runtime_error("write");
    }
    if (one_in(6)) {
      struct stat st {};
      ::fstat(fd, &st);
      if (::ftruncate(fd, st.st_size + static_cast<off_t>(below(100'000))) != 0)
        throw std::runtime_error("truncate");
    }
    ::close(fd);
  }

  void link(const path& top) {
    if (files_.empty()) return;
    auto from = files_[below(files_.size())];
    auto to = place(top);
    struct stat st {};
    if (::lstat((top / from).c_str(), &st) != 0 || S_ISDIR(st.st_mode)) return;
    if (!S_ISREG(st.st_mode) && !options_.linked_specials) return;
    if (::linkat(AT_FDCWD, (top / from).c_str(), AT_FDCWD, (top / to).c_str(), 0) == 0) files_.push_back(to);
  }

  /// Owner, mode, attributes and time.
  void dress(const path& full) {
    struct stat st {};
    if (::lstat(full.c_str(), &st) != 0) return;
    if (::lchown(full.c_str(), owner(), owner()) != 0) throw std::runtime_error("lchown");
    if (!S_ISLNK(st.st_mode) &&
        ::chmod(full.c_str(), one_in(3) ? below(010000) : 0644 | below(0100) << 3) != 0)
      throw std::runtime_error("chmod");
    if (options_.xattrs && one_in(4)) {
      std::string value(below(300), 'v');
      for (auto& c : value) c = static_cast<char>(random_());
      bool any = S_ISREG(st.st_mode) || S_ISDIR(st.st_mode);
      ::lsetxattr(full.c_str(), any && one_in(2) ? "user.some\xe9" : "trusted.some", value.data(),
                  value.size(), 0);
    }
    touch(full);
  }

  void touch(const path& full) {
    auto ns = time();
    auto seconds = ns / 1'000'000'000, rest = ns % 1'000'000'000;
    if (rest < 0) --seconds, rest += 1'000'000'000;
    timespec times[2] = {{seconds, rest}, {seconds, rest}};
    ::utimensat(AT_FDCWD, full.c_str(), times, AT_SYMLINK_NOFOLLOW);
  }

  /// Directories have times of their own, whatever was put into them.
  void finish(const path& top) {
    for (const auto& [p, e] : scan_tree(top))
      if (e.type == S_IFDIR && one_in(2)) touch(top / p);
  }

  void remember(const path& top) {
    directories_ = {""};
    files_.clear();
    for (const auto& [p, e] : scan_tree(top)) (e.type == S_IFDIR ? directories_ : files_).push_back(p);
  }

  std::string any(const path& top) {
    auto all = scan_tree(top);
    if (all.empty()) return {};
    auto at = all.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(below(all.size())));
    return at->first;
  }

  options options_;
  std::mt19937_64 random_;
  std::vector<std::string> directories_{""};
  std::vector<std::string> files_;
};

/// The seeds of a property test: as many as `usual`, or KILN_FILE_SEEDS, from KILN_FILE_SEED on.
inline std::vector<std::uint64_t> file_seeds(std::uint64_t usual) {
  auto number = [](const char* name, std::uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text ? std::strtoull(text, nullptr, 10) : otherwise;
  };
  std::vector<std::uint64_t> seeds;
  auto first = number("KILN_FILE_SEED", 1);
  for (std::uint64_t i = 0; i < number("KILN_FILE_SEEDS", usual); ++i) seeds.push_back(first + i);
  return seeds;
}

}  // namespace kiln::test
