#include "workers/mount_namespace.hpp"

#include <sched.h>
#include <sys/mount.h>
#include <sys/vfs.h>

#include <cerrno>

namespace kiln::workers {

namespace {

constexpr long cgroup2_magic = 0x63677270;
constexpr const char* hybrid_v2_mount = "/sys/fs/cgroup/unified";

bool is_cgroup2(const char* path) {
  struct statfs info;
  return statfs(path, &info) == 0 && info.f_type == cgroup2_magic;
}

}  // namespace

status enter_private_mount_namespace() {
  if (unshare(CLONE_NEWNS) != 0) return errno_error(errno, "creating a mount namespace");
  if (mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0)
    return errno_error(errno, "making the mount namespace private");
  if (!is_cgroup2("/sys/fs/cgroup") && is_cgroup2(hybrid_v2_mount) &&
      umount2(hybrid_v2_mount, MNT_DETACH) != 0)
    return errno_error(errno, std::string("hiding ") + hybrid_v2_mount);
  return {};
}

}  // namespace kiln::workers
