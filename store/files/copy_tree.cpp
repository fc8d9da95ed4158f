#include "store/files/copy_tree.hpp"

#include <sys/sysmacros.h>

#include <cerrno>
#include <map>

#include "base/files.hpp"
#include "configs/store.hpp"
#include "store/files/file_data.hpp"
#include "store/files/file_facts.hpp"
#include "store/files/regular_file.hpp"
#include "store/files/xattr.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

namespace {

struct tree_copier {
  const copy_options& options;
  const job_context& job;
  int target_root;
  std::map<std::pair<dev_t, ino_t>, std::string> linked;  // first path, relative to the target root

  status copy_children(int from, int to, const std::string& prefix, int depth) {
    if (depth > limits::tree_depth)
      return make_error(errc::out_of_range, "directories are nested too deeply");
    KILN_CHECK(job.check());
    KILN_TRY(auto names, list_names(from));
    for (const auto& name : names) {
      struct stat info {};
      if (::fstatat(from, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
        return errno_error(errno, "stat " + prefix + name);
      if (auto done = copy_one(from, name, info, to, prefix, depth); !done) return done;
    }
    return {};
  }

  status copy_one(int from, const std::string& name, const struct stat& info, int to,
                  const std::string& prefix, int depth) {
    auto path = prefix + name;
    if (S_ISDIR(info.st_mode)) {
      if (::mkdirat(to, name.c_str(), 0700) != 0 && errno != EEXIST)
        return errno_error(errno, "mkdir " + path);
      KILN_TRY(auto source, open_at(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      KILN_TRY(auto target, open_at(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      KILN_CHECK(copy_children(source.get(), target.get(), path + "/", depth + 1));
      return copy_metadata(from, name, info, to, name);
    }
    if (info.st_nlink > 1) {
      auto [first, is_new] = linked.try_emplace({info.st_dev, info.st_ino}, path);
      if (!is_new) {
        if (::linkat(target_root, first->second.c_str(), to, name.c_str(), 0) != 0)
          return errno_error(errno, "link " + path);
        return {};
      }
    }
    if (options.hard_link_files && S_ISREG(info.st_mode)) {
      if (::linkat(from, name.c_str(), to, name.c_str(), 0) == 0) return {};
      if (!cannot_be_linked(errno)) return errno_error(errno, "link " + path);
    }
    return copy_entry(from, name, info, to, name, job);
  }
};

}  // namespace

status copy_metadata(int from, const std::string& from_name, const struct stat& info, int to,
                     const std::string& name) {
  if (::fchownat(to, name.c_str(), info.st_uid, info.st_gid, AT_SYMLINK_NOFOLLOW) != 0)
    return errno_error(errno, "chown " + name);
  if (!S_ISLNK(info.st_mode) && ::fchmodat(to, name.c_str(), info.st_mode & 07777, AT_SYMLINK_NOFOLLOW) != 0)
    return errno_error(errno, "chmod " + name);
  KILN_TRY(auto attributes, get_xattrs(from, from_name));
  for (const auto& [key, value] : attributes) {
    if (is_overlay_xattr(key)) continue;
    auto set = set_xattr(to, name, key, value);
    // What the security module of the host adds is not the file's own.
    if (!set && (key.rfind("security.", 0) != 0 || key == "security.capability")) return set;
  }
  const struct timespec times[2] = {info.st_atim, info.st_mtim};
  if (::utimensat(to, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
    return errno_error(errno, "set times of " + name);
  return {};
}

status copy_entry(int from, const std::string& name, const struct stat& info, int to,
                  const std::string& to_name, const job_context& job) {
  if (S_ISREG(info.st_mode)) {
    KILN_TRY(auto source, open_regular_at(from, name));
    KILN_TRY(auto target, open_at(to, to_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    KILN_CHECK(copy_file_data(source.get(), target.get(), job));
  } else if (S_ISLNK(info.st_mode)) {
    std::string link(static_cast<std::size_t>(info.st_size) + 1, '\0');
    auto size = ::readlinkat(from, name.c_str(), link.data(), link.size());
    if (size < 0) return errno_error(errno, "read link " + name);
    link.resize(static_cast<std::size_t>(size));
    if (::symlinkat(link.c_str(), to, to_name.c_str()) != 0) return errno_error(errno, "symlink " + to_name);
  } else if (S_ISDIR(info.st_mode)) {
    if (::mkdirat(to, to_name.c_str(), 0700) != 0 && errno != EEXIST)
      return errno_error(errno, "mkdir " + to_name);
  } else {
    if (::mknodat(to, to_name.c_str(), info.st_mode, info.st_rdev) != 0)
      return errno_error(errno, "mknod " + to_name);
  }
  return copy_metadata(from, name, info, to, to_name);
}

status copy_tree(const fs::path& from, const fs::path& to, const copy_options& options,
                 const job_context& job) {
  KILN_TRY(auto source, open_file(from, O_RDONLY | O_DIRECTORY));
  KILN_TRY(auto target, open_file(to, O_RDONLY | O_DIRECTORY));
  tree_copier copier{options, job, target.get(), {}};
  KILN_CHECK(copier.copy_children(source.get(), target.get(), "", 0));
  struct stat info {};
  if (::fstat(source.get(), &info) != 0) return errno_error(errno, "stat " + from.string());
  return copy_metadata(source.get(), ".", info, target.get(), ".");
}

}  // namespace kiln::store
