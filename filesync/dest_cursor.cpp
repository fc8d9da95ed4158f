#include "filesync/dest_cursor.hpp"

#include <algorithm>
#include <cerrno>

#include <dirent.h>
#include <fcntl.h>

#include "filesync/tree.hpp"

namespace kiln::filesync {

status dest_cursor::start() {
  KILN_CHECK(list(""));
  return load();
}

status dest_cursor::list(const std::string& path) {
  int fd = path.empty() ? ::openat(root_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                        : open_beneath(root_, path, O_RDONLY | O_DIRECTORY);
  DIR* dir = fd < 0 ? nullptr : ::fdopendir(fd);
  if (dir == nullptr) {
    int err = errno;
    if (fd >= 0) ::close(fd);
    return errno_error(err, "failed to walk: open " + path);
  }
  frame f;
  f.path = path;
  while (const dirent* e = ::readdir(dir)) {
    std::string name = e->d_name;
    if (name != "." && name != "..") f.names.push_back(std::move(name));
  }
  ::closedir(dir);
  std::sort(f.names.begin(), f.names.end());
  frames_.push_back(std::move(f));
  return {};
}

status dest_cursor::load() {
  current_.reset();
  unique_fd parent;
  while (!frames_.empty()) {
    frame& f = frames_.back();
    if (f.next == f.names.size()) {
      frames_.pop_back();
      continue;
    }
    const std::string& name = f.names[f.next++];
    std::string path = f.path.empty() ? name : f.path + "/" + name;
    // Only this thread renames directories while the cursor runs, so the parent is what it was.
    int dir = root_;
    if (!f.path.empty()) {
      parent.reset(open_beneath(root_, f.path, O_PATH | O_DIRECTORY));
      dir = parent.get();
    }
    struct stat st {};
    if (dir < 0 || ::fstatat(dir, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
    file_stat entry;
    fill_plain(st, path, entry);
    if (S_ISLNK(st.st_mode)) {
      (void)fill_link(dir, name.c_str(), path, entry);  // gone meanwhile: it is no longer what is sent either
    } else if (!S_ISDIR(st.st_mode) && st.st_nlink > 1) {
      auto [it, first] = inodes_.try_emplace(st.st_ino, path);
      if (!first) entry.set_linkname(it->second);
    }
    current_ = std::move(entry);
    return {};
  }
  return {};
}

status dest_cursor::advance(bool enter) {
  if (enter && current_ && is_dir(*current_)) KILN_CHECK(list(current_->path()));
  return load();
}

}  // namespace kiln::filesync
