#include "filesync/entry_maker.hpp"

#include <cerrno>

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "filesync/disk.hpp"

namespace kiln::filesync {

result<entry_maker::outcome> entry_maker::make(const file_stat& stat, const file_stat* old) {
  KILN_TRY(int dir, parents_.parent_of(stat.path()));
  std::string name = base_name(stat.path());
  bool exists = old != nullptr;
  bool old_is_dir = old != nullptr && is_dir(*old);
  if (old == nullptr && merge_) {
    struct stat st {};
    if (::fstatat(dir, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) {
      exists = true;
      old_is_dir = S_ISDIR(st.st_mode);
    }
  }
  if (is_dir(stat)) {
    KILN_CHECK(make_directory(dir, name, stat, exists, old_is_dir));
    return outcome::made;
  }
  if (old_is_dir) {
    KILN_CHECK(remove_tree_at(dir, name));
    exists = false;
  }
  if (is_regular(stat) && !stat.linkname().empty()) {
    links_.push_back(stat);
    return outcome::made;
  }
  if (is_regular(stat)) return exists ? outcome::replaces_file : outcome::new_file;
  KILN_CHECK(make_special(dir, name, stat, exists));
  return outcome::made;
}

status entry_maker::make_special(int dir, const std::string& name, const file_stat& stat, bool exists) {
  std::string made = exists ? temporary_name() : name;
  if (is_symlink(stat)) {
    if (::symlinkat(stat.linkname().c_str(), dir, made.c_str()) != 0) {
      return errno_error(errno, "failed to symlink " + stat.path());
    }
  } else if (::mknodat(dir, made.c_str(), file_type(stat.mode()) | permission_bits(stat.mode()),
                       makedev(stat.devmajor(), stat.devminor())) != 0) {
    return errno_error(errno, "failed to create device " + stat.path());
  }
  KILN_CHECK(apply_metadata_at(dir, made, stat));
  if (exists && ::renameat(dir, made.c_str(), dir, name.c_str()) != 0) {
    return errno_error(errno, "failed to rename " + stat.path());
  }
  return {};
}

status entry_maker::make_directory(int dir, const std::string& name, const file_stat& stat, bool exists,
                                   bool old_is_dir) {
  if (exists && !old_is_dir) {
    if (::unlinkat(dir, name.c_str(), 0) != 0) return errno_error(errno, "failed to remove " + stat.path());
    exists = false;
  }
  if (!exists && ::mkdirat(dir, name.c_str(), 0700) != 0) {
    return errno_error(errno, "failed to create dir " + stat.path());
  }
  unique_fd fd(::openat(dir, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return errno_error(errno, "failed to open dir " + stat.path());
  KILN_CHECK(apply_metadata(fd.get(), stat, 0700));
  std::optional<mode_t> mode;
  if ((permission_bits(stat.mode()) & 0700) != 0700) mode = permission_bits(stat.mode());
  directories_.push_back({stat.path(), stat.modtime(), mode});
  return {};
}

status entry_maker::remove(const std::string& path) {
  KILN_TRY(int dir, parents_.parent_of(path));
  auto removed = remove_tree_at(dir, base_name(path));
  if (!removed) return std::move(removed).error().with_context("failed to remove " + path);
  return {};
}

void entry_maker::date(const file_stat& directory) {
  directories_.push_back({directory.path(), directory.modtime(), std::nullopt});
}

status entry_maker::finish() {
  for (const file_stat& link : links_) KILN_CHECK(make_link(link));
  for (auto it = directories_.rbegin(); it != directories_.rend(); ++it) {
    KILN_TRY(int dir, parents_.parent_of(it->path));
    std::string name = base_name(it->path);
    if (it->mode && ::fchmodat(dir, name.c_str(), *it->mode, AT_SYMLINK_NOFOLLOW) != 0)
      return errno_error(errno, "chmod " + it->path);
    KILN_CHECK(set_mtime_at(dir, name, it->mtime));
  }
  return {};
}

status entry_maker::make_link(const file_stat& link) {
  KILN_TRY(int dir, parents_.parent_of(link.path()));
  unique_fd source_dir(::dup(dir));
  if (parent_path(link.path()) != parent_path(link.linkname())) {
    std::string parent = parent_path(link.linkname());
    source_dir.reset(parent.empty() ? ::dup(parents_.root())
                                    : open_beneath(parents_.root(), parent, O_PATH | O_DIRECTORY));
  }
  if (!source_dir) return errno_error(errno, "failed to link " + link.path());
  std::string made = temporary_name();
  if (::linkat(source_dir.get(), base_name(link.linkname()).c_str(), dir, made.c_str(), 0) != 0) {
    return errno_error(errno, "failed to link " + link.path() + " to " + link.linkname());
  }
  std::string name = base_name(link.path());
  if (::renameat(dir, made.c_str(), dir, name.c_str()) != 0) {
    return errno_error(errno, "failed to rename " + link.path());
  }
  ::unlinkat(dir, made.c_str(), 0);  // renaming onto another name of the same file does nothing
  return {};
}

}  // namespace kiln::filesync
