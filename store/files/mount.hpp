// Making and undoing mounts from mount_specs: bind (read-only too), overlay with any number of layers,
// fuse-overlayfs. Knows nothing of records. Thread-safe.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "store/ref_store.hpp"

namespace kiln::store {

/// Mounts the specs, in order, on `target` (an existing directory), for us as nodev, nosuid and noexec.
/// Nothing stays mounted on failure. Overlays with more layers than fit into mount(2)'s page go through
/// fsconfig(2), or, on kernels without `lowerdir+`, through relative paths.
status mount_all(std::span<const mount_spec> specs, const std::filesystem::path& target,
                 mount_use use = mount_use::daemon);

/// Detaches what is mounted on `target`; an error when nothing is.
status unmount(const std::filesystem::path& target);

/// Mount points below (not on) the directory, in order of mounting.
result<std::vector<std::filesystem::path>> mounts_below(const std::filesystem::path& directory);

/// Detaches everything mounted below (not on) the directory, deepest first; how many that were.
result<int> unmount_below(const std::filesystem::path& directory);

/// Whether this process is in a user namespace other than the first.
result<bool> in_user_namespace();

/// Whether a mount (or what was tried on it) failed because it cannot work here at all, and not because of
/// what may be otherwise the next time: no space, no memory, no descriptors, a broken or read-only disk.
bool is_unsupported(const error& e);

}  // namespace kiln::store
