// Control groups of containers, whatever hierarchies the host has: v1, v2 or both. Only removal and memory
// events; the runtime makes and fills them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace kiln::workers {

/// Mount points of every cgroup hierarchy visible here.
std::vector<std::filesystem::path> cgroup_hierarchies();

/// Whether v1 controllers and a v2 hierarchy beside them are both visible (crun refuses that).
bool hybrid_cgroups();

/// Kills whatever is left in `path` ("/buildkit/x") and its children in every hierarchy and removes
/// them. Fine when there is nothing. Waits at most five seconds for the killed to go.
status remove_cgroup(const std::string& path);

/// A parent of containers' groups, as somebody asked for it: "" (the default), a path below the hierarchies'
/// roots, which
/// `..` does not leave, or systemd's "NAME.slice:". invalid_argument for what no group can be called.
/// Source: BuildKit, executor/oci/spec.go; the kernel's cgroup_mkdir for names.
status check_cgroup_parent(const std::string& parent);

/// Whether systemd makes and removes the group: its name is then no path.
inline bool is_of_systemd(const std::string& group) { return !group.starts_with('/'); }

/// The groups above those of containers, which the runtime makes where they are missing and nobody removes.
/// What was missing when the first container came goes with the last one; what was there before stays.
/// Thread-safe.
class parent_groups {
 public:
  /// Before `group` ("/a/b/buildkit/x") is made. The directories that will have to be made above it, topmost
  /// first.
  std::vector<std::filesystem::path> enter(const std::string& group);
  /// After the group itself has gone.
  void leave(const std::string& group);

 private:
  struct use {
    std::size_t containers = 0;
    bool made = false;
  };
  std::mutex mutex_;
  std::map<std::filesystem::path, use> used_;
};

/// Removes directories that enter() told a former daemon of, but for those that are in use or are not above
/// `group`.
void remove_parents(const std::vector<std::filesystem::path>& made, const std::string& group);

}  // namespace kiln::workers
