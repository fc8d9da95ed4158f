// Control groups of containers, whatever hierarchies the host has: v1, v2 or both. Only removal and memory
// events; the runtime makes and fills them.
#pragma once

#include <cstdint>
#include <filesystem>
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

/// Out-of-memory kills this kernel has made so far; 0 when it does not say.
std::uint64_t oom_kills();

}  // namespace kiln::workers
