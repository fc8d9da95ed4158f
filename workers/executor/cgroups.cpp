#include "workers/executor/cgroups.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <fstream>
#include <sstream>

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/quoting.hpp"
#include "base/unique_fd.hpp"
#include "base/utf8.hpp"
#include "configs/executor.hpp"

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

/// The directories above a group in every hierarchy, topmost first.
std::vector<fs::path> directories_above(const std::string& group) {
  std::vector<fs::path> out;
  if (is_of_systemd(group)) return out;
  for (const auto& hierarchy : cgroup_hierarchies())
    for (auto slash = group.find('/', 1); slash != std::string::npos; slash = group.find('/', slash + 1))
      out.push_back(hierarchy.string() + group.substr(0, slash));
  return out;
}

}  // namespace

status check_cgroup_parent(const std::string& parent) {
  auto refuse = [&](const std::string& why) {
    return make_error(errc::invalid_argument,
                      "invalid cgroup parent " + quote(valid_utf8(parent)) + ": " + why);
  };
  if (!is_valid_utf8(parent)) return refuse("it is not UTF-8");
  if (std::any_of(parent.begin(), parent.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }))
    return refuse("control characters");
  if (parent.size() > configs::cgroup_parent_bytes_max)
    return refuse("longer than " + std::to_string(configs::cgroup_parent_bytes_max) + " bytes");
  std::string_view rest = parent;
  while (!rest.empty()) {
    auto part = rest.substr(0, rest.find('/'));
    if (part.size() > NAME_MAX) return refuse("a name of more than " + std::to_string(NAME_MAX) + " bytes");
    rest.remove_prefix(std::min(part.size() + 1, rest.size()));
  }
  return {};
}

std::vector<fs::path> parent_groups::enter(const std::string& group) {
  std::vector<fs::path> made;
  std::lock_guard lock(mutex_);
  for (auto& directory : directories_above(group)) {
    auto& use = used_[directory];
    if (use.containers++ == 0) use.made = ::access(directory.c_str(), F_OK) != 0;
    if (use.made) made.push_back(std::move(directory));
  }
  return made;
}

void parent_groups::leave(const std::string& group) {
  std::lock_guard lock(mutex_);
  auto directories = directories_above(group);
  for (auto directory = directories.rbegin(); directory != directories.rend(); ++directory) {
    auto at = used_.find(*directory);
    if (at == used_.end() || --at->second.containers > 0) continue;
    if (at->second.made) ::rmdir(directory->c_str());  // refuses where somebody else has come meanwhile
    used_.erase(at);
  }
}

void remove_parents(const std::vector<fs::path>& made, const std::string& group) {
  auto above = directories_above(group);
  for (auto directory = made.rbegin(); directory != made.rend(); ++directory)
    if (std::find(above.begin(), above.end(), *directory) != above.end()) ::rmdir(directory->c_str());
}

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

}  // namespace kiln::workers
