#include "store/files/file_facts.hpp"

#include <sys/stat.h>

#include <chrono>
#include <map>
#include <utility>

#include "base/files.hpp"
#include "configs/store.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

namespace {

struct allocation {
  bool own_only;
  std::int64_t sum = 0;
  std::map<std::pair<dev_t, ino_t>, nlink_t> seen;  // files with several links

  void add(const struct stat& info) {
    if (!S_ISDIR(info.st_mode) && info.st_nlink > 1) {
      auto links = ++seen[{info.st_dev, info.st_ino}];
      if (links != (own_only ? info.st_nlink : 1)) return;
    }
    sum += static_cast<std::int64_t>(info.st_blocks) * 512;
  }

  status walk(int directory, int depth) {
    if (depth > limits::tree_depth)
      return make_error(errc::out_of_range, "directories are nested too deeply");
    KILN_TRY(auto names, list_names(directory));
    for (const auto& name : names) {
      struct stat info {};
      if (::fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT) continue;
        return errno_error(errno, "stat " + name);
      }
      add(info);
      if (!S_ISDIR(info.st_mode)) continue;
      auto child = open_at(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      if (!child) {
        if (child.error().code == errc::not_found) continue;
        return std::move(child).error();
      }
      KILN_CHECK(walk(child->get(), depth + 1));
    }
    return {};
  }
};

}  // namespace

result<std::int64_t> allocated_bytes(const fs::path& path, bool own_only) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) return errno_error(errno, "stat " + path.string());
  allocation all{own_only, static_cast<std::int64_t>(info.st_blocks) * 512, {}};
  if (!S_ISDIR(info.st_mode)) return all.sum;
  KILN_TRY(auto fd, open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  KILN_CHECK(all.walk(fd.get(), 0));
  return all.sum;
}

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace kiln::store
