// The root of a cgroup v2 hierarchy that is the daemon's own, as in a container with a cgroup namespace: its
// processes leave the root for a group beside those to come, for only then may these have controllers.
#pragma once

#include <filesystem>

#include "base/result.hpp"

namespace kiln::workers {

/// Does so where $BUILDKIT_SETUP_CGROUPV2_ROOT is true. Source: BuildKit executor/resources/monitor.go.
status prepare_cgroup_root();

/// The same below `root`, asked or not. A controller that cannot be had is a warning.
status move_out_of_cgroup_root(const std::filesystem::path& root);

}  // namespace kiln::workers
