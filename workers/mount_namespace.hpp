// The daemon's own mount namespace: whatever kills the daemon, the kernel takes its mounts with it.
#pragma once

#include "base/result.hpp"

namespace kiln::workers {

/// Moves the process into a private mount namespace (host mounts still arrive, ours stay inside).
/// Call before any thread is started. On hosts that mix cgroup v1 and v2 the v2 part is hidden in
/// here, because crun 1.8 refuses to run where it sees both. permission_denied where the kernel
/// does not allow it; the daemon then works in the host's namespace, as BuildKit does.
status enter_private_mount_namespace();

}  // namespace kiln::workers
