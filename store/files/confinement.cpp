#include "store/files/confinement.hpp"

#include <fcntl.h>
#include <sys/statvfs.h>

#include <atomic>
#include <cerrno>

#include <spdlog/spdlog.h>

#include "base/files.hpp"
#include "store/files/mount.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

namespace {

/// What statvfs(2) says of a mount, as mount(2) has it.
unsigned long flags_of(const struct statvfs& info) {
  static constexpr std::pair<unsigned long, unsigned long> same[] = {
      {ST_RDONLY, MS_RDONLY},    {ST_NOSUID, MS_NOSUID},   {ST_NODEV, MS_NODEV},
      {ST_NOEXEC, MS_NOEXEC},    {ST_NOATIME, MS_NOATIME}, {ST_NODIRATIME, MS_NODIRATIME},
      {ST_RELATIME, MS_RELATIME}};
  unsigned long flags = 0;
  for (auto [seen, meant] : same)
    if (info.f_flag & seen) flags |= meant;
  return flags;
}

bool is_confined(const struct statvfs& info) { return (flags_of(info) & confining_flags) == confining_flags; }

/// Empty where the kernel cannot.
unique_fd confined_copy(int directory) {
  unique_fd copy(::open_tree(directory, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (!copy) return {};
  mount_attr wanted{};
  wanted.attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
  if (::mount_setattr(copy.get(), "", AT_EMPTY_PATH, &wanted, sizeof wanted) != 0) return {};
  // The copy lives as long as something of it is open.
  return unique_fd(::openat(copy.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

}  // namespace

status restrict_mount(const fs::path& target, unsigned long flags) {
  // In a user namespace the flags that the mount came with may not be dropped.
  struct statvfs info {};
  if (::statvfs(target.c_str(), &info) == 0) flags |= flags_of(info);
  if (::mount(nullptr, target.c_str(), nullptr, MS_BIND | MS_REMOUNT | flags, nullptr) != 0)
    return errno_error(errno, "remount " + target.string());
  return {};
}

status confine(const fs::path& root, const fs::path& inside, const fs::path& window) {
  KILN_TRY(auto before, open_file(inside, O_PATH | O_DIRECTORY));
  if (::mount(root.c_str(), root.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0)
    return errno_error(errno, "bind " + root.string() + " to itself");
  KILN_CHECK(restrict_mount(root, confining_flags));
  KILN_TRY(auto below, mounts_below(root));
  for (const auto& point : below) KILN_CHECK(restrict_mount(point, confining_flags));
  if (::mount(fd_path(before.get()).c_str(), window.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0)
    return errno_error(errno, "bind " + inside.string() + " to " + window.string());
  return {};
}

result<unique_fd> open_confined(const fs::path& directory) {
  KILN_TRY(auto fd, open_file(directory, O_RDONLY | O_DIRECTORY));
  struct statvfs info {};
  if (::fstatvfs(fd.get(), &info) != 0)
    return errno_error(errno, "look at the mount of " + directory.string());
  if (is_confined(info)) return fd;
  if (auto copy = confined_copy(fd.get())) return copy;
  static std::atomic<bool> told{false};
  if (!told.exchange(true))
    spdlog::warn("{}: device nodes and set-user-ID bits count there",
                 errno_error(errno, "copy of a mount").message);
  return fd;
}

}  // namespace kiln::store
