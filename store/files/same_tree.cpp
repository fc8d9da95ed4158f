#include "store/files/same_tree.hpp"

#include <cerrno>
#include <string>

#include <sys/stat.h>
#include <unistd.h>

#include "base/files.hpp"
#include "configs/store.hpp"
#include "store/files/file_data.hpp"
#include "store/files/regular_file.hpp"
#include "store/files/xattr.hpp"

namespace kiln::store {

result<std::string> link_target(int directory, const std::string& name, std::size_t size) {
  std::string text(size + 1, '\0');
  auto count = ::readlinkat(directory, name.c_str(), text.data(), text.size());
  if (count < 0) return errno_error(errno, "read link " + name);
  text.resize(static_cast<std::size_t>(count));
  return text;
}

result<bool> same_content(int a, int b, const std::string& name, const job_context& job) {
  KILN_TRY(auto left, open_regular_at(a, name));
  KILN_TRY(auto right, open_regular_at(b, name));
  auto first = read_file_data(std::move(left)), second = read_file_data(std::move(right));
  std::string x(limits::copy_buffer, '\0'), y(limits::copy_buffer, '\0');
  auto fill = [](byte_source& source, std::string& buffer) -> result<std::size_t> {
    std::size_t have = 0;
    while (have < buffer.size()) {
      KILN_TRY(auto count, source.read({buffer.data() + have, buffer.size() - have}));
      if (count == 0) break;
      have += count;
    }
    return have;
  };
  while (true) {
    KILN_CHECK(job.check());
    KILN_TRY(auto m, fill(*first, x));
    KILN_TRY(auto n, fill(*second, y));
    if (m != n || std::string_view(x).substr(0, m) != std::string_view(y).substr(0, n)) return false;
    if (m == 0) return true;
  }
}

namespace {

result<bool> same_entry(int a, int b, const std::string& name, struct stat& x, const job_context& job) {
  struct stat y {};
  if (::fstatat(a, name.c_str(), &x, AT_SYMLINK_NOFOLLOW) != 0 ||
      ::fstatat(b, name.c_str(), &y, AT_SYMLINK_NOFOLLOW) != 0)
    return errno_error(errno, "stat " + name);
  if (S_ISREG(x.st_mode) && x.st_dev == y.st_dev && x.st_ino == y.st_ino) return true;
  if (x.st_mode != y.st_mode || x.st_uid != y.st_uid || x.st_gid != y.st_gid || x.st_rdev != y.st_rdev ||
      x.st_mtim.tv_sec != y.st_mtim.tv_sec || x.st_mtim.tv_nsec != y.st_mtim.tv_nsec)
    return false;
  if (S_ISLNK(x.st_mode)) {
    KILN_TRY(auto left, link_target(a, name, static_cast<std::size_t>(x.st_size)));
    KILN_TRY(auto right, link_target(b, name, static_cast<std::size_t>(y.st_size)));
    if (left != right) return false;
  }
  KILN_TRY(auto left, get_xattrs(a, name));
  KILN_TRY(auto right, get_xattrs(b, name));
  if (left != right || !S_ISREG(x.st_mode)) return left == right;
  // A file that was sent once more although nothing about it had changed.
  return x.st_size == y.st_size ? same_content(a, b, name, job) : result<bool>(false);
}

result<bool> same(int a, int b, const job_context& job, int depth) {
  if (depth > limits::tree_depth) return make_error(errc::out_of_range, "directories are nested too deeply");
  KILN_CHECK(job.check());
  KILN_TRY(auto left, list_names(a));
  KILN_TRY(auto right, list_names(b));
  if (left != right) return false;
  for (const auto& name : left) {
    struct stat info {};
    KILN_TRY(auto equal, same_entry(a, b, name, info, job));
    if (!equal) return false;
    if (!S_ISDIR(info.st_mode)) continue;
    KILN_TRY(auto x, open_at(a, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    KILN_TRY(auto y, open_at(b, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    KILN_TRY(auto inside, same(x.get(), y.get(), job, depth + 1));
    if (!inside) return false;
  }
  return true;
}

}  // namespace

result<bool> same_tree(const std::filesystem::path& a, const std::filesystem::path& b,
                       const job_context& job) {
  KILN_TRY(auto x, open_file(a, O_RDONLY | O_DIRECTORY));
  KILN_TRY(auto y, open_file(b, O_RDONLY | O_DIRECTORY));
  return same(x.get(), y.get(), job, 0);
}

}  // namespace kiln::store
