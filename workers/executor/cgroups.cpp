#include "workers/executor/cgroups.hpp"

#include <cerrno>
#include <chrono>
#include <fstream>
#include <sstream>

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/unique_fd.hpp"

namespace kiln::workers {

namespace {

namespace fs = std::filesystem;

constexpr long cgroup2_magic = 0x63677270;

bool is_cgroup2(const char* path) {
  struct statfs info {};
  return ::statfs(path, &info) == 0 && info.f_type == cgroup2_magic;
}

// Kills the processes of one group and waits for them; new ones may appear meanwhile, so callers repeat.
bool kill_members(const fs::path& group) {
  std::ifstream members(group / "cgroup.procs");
  bool any = false;
  pid_t pid = 0;
  while (members >> pid) {
    if (pid <= 1) continue;
    any = true;
    unique_fd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!fd) continue;
    ::syscall(SYS_pidfd_send_signal, fd.get(), SIGKILL, nullptr, 0);
    pollfd p{fd.get(), POLLIN, 0};
    ::poll(&p, 1, 200);
  }
  return any;
}

status remove_tree(const fs::path& group) {
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(group, ec)) {
    if (entry.is_directory(ec) && !entry.is_symlink(ec)) KILN_CHECK(remove_tree(entry.path()));
  }
  for (int attempt = 0; attempt < 500; ++attempt) {  // 5 s: the killed go when the scheduler gets to them
    if (::rmdir(group.c_str()) == 0 || errno == ENOENT) return {};
    if (errno != EBUSY) return errno_error(errno, "rmdir " + group.string());
    if (!kill_members(group)) ::usleep(10'000);  // the last member is dead but not yet reaped
  }
  return errno_error(EBUSY, "rmdir " + group.string());
}

}  // namespace

std::vector<fs::path> cgroup_hierarchies() {
  std::vector<fs::path> out;
  std::ifstream mounts("/proc/self/mountinfo");
  std::string line;
  while (std::getline(mounts, line)) {
    std::size_t dash = line.find(" - cgroup");  // cgroup or cgroup2
    if (dash == std::string::npos) continue;
    std::istringstream words(line.substr(0, dash));
    std::string skip, mount_point;
    words >> skip >> skip >> skip >> skip >> mount_point;
    if (mount_point.starts_with("/sys/fs/cgroup")) out.emplace_back(mount_point);
  }
  return out;
}

bool hybrid_cgroups() { return !is_cgroup2("/sys/fs/cgroup") && is_cgroup2("/sys/fs/cgroup/unified"); }

status remove_cgroup(const std::string& path) {
  status result;
  for (const auto& hierarchy : cgroup_hierarchies()) {
    fs::path group = hierarchy / path.substr(path.find_first_not_of('/'));
    if (::access(group.c_str(), F_OK) != 0) continue;
    if (status s = remove_tree(group); !s) result = std::move(s);
  }
  // Where the v2 part of a hybrid host is hidden, crun makes plain directories in its place.
  ::rmdir(("/sys/fs/cgroup/unified" + path).c_str());
  return result;
}

std::uint64_t oom_kills() {
  std::ifstream stats("/proc/vmstat");
  std::string name;
  std::uint64_t value = 0;
  while (stats >> name >> value) {
    if (name == "oom_kill") return value;
  }
  return 0;
}

}  // namespace kiln::workers
