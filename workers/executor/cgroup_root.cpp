#include "workers/executor/cgroup_root.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>

#include <spdlog/spdlog.h>

#include "base/files.hpp"
#include "base/numbers.hpp"
#include "base/text.hpp"
#include "configs/executor.hpp"

namespace kiln::workers {
namespace {

namespace fs = std::filesystem;

/// Control files take one value a write, and are never made.
status tell(const fs::path& file, const std::string& value) {
  KILN_TRY(auto opened, open_file(file, O_WRONLY));
  if (::write(opened.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size()))
    return errno_error(errno, "write " + value + " to " + file.string());
  return {};
}

}  // namespace

status move_out_of_cgroup_root(const fs::path& root) {
  KILN_TRY(auto controllers, kiln::read_file(root / "cgroup.controllers", configs::made_groups_bytes_max));
  KILN_TRY(auto processes, kiln::read_file(root / "cgroup.procs", configs::made_groups_bytes_max));
  auto init = root / "init";
  std::error_code failed;
  fs::create_directory(init, failed);
  if (failed) return make_error(errc::internal, "make " + init.string() + ": " + failed.message());
  for (auto line : split(processes, '\n'))
    if (!line.empty()) KILN_CHECK(tell(init / "cgroup.procs", std::string(line)));
  for (auto name : split(trim(controllers), ' '))
    if (!name.empty())
      if (auto s = tell(root / "cgroup.subtree_control", "+" + std::string(name)); !s)
        spdlog::warn("cgroup controller {} is not enabled: {}", name, s.error().message);
  return {};
}

status prepare_cgroup_root() {
  const char* asked = std::getenv("BUILDKIT_SETUP_CGROUPV2_ROOT");
  if (asked == nullptr || !parse_bool(asked).value_or(false)) return {};
  auto moved = move_out_of_cgroup_root("/sys/fs/cgroup");
  if (!moved.ok()) return std::move(moved).error().with_context("BUILDKIT_SETUP_CGROUPV2_ROOT");
  return {};
}

}  // namespace kiln::workers
