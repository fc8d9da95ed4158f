// Keeping the daemon away from what builds leave in their files. Where it looks itself, mounts are nodev,
// nosuid and noexec: a device node there is a name and no more. Only containers get mounts without these
// flags. Blocking kernel calls; thread-safe.
#pragma once

#include <sys/mount.h>

#include <filesystem>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace kiln::store {

inline constexpr unsigned long confining_flags = MS_NODEV | MS_NOSUID | MS_NOEXEC;

/// Covers `root` with a mount of itself in which everything is nodev, nosuid and noexec, file systems mounted
/// below included. On `window`, an empty directory in it, its directory `inside` stays as it was. For a mount
/// namespace of our own: nothing undoes it but the namespace's end.
status confine(const std::filesystem::path& root, const std::filesystem::path& inside,
               const std::filesystem::path& window);

/// Opens a directory for looking into it: whatever is opened through the descriptor is on a nodev, nosuid,
/// noexec mount, the one that is there or a copy of it that only the descriptor knows. No hard link leads
/// from what one descriptor shows to what another does. Where the kernel has no such copies (before 5.12) or
/// we may not make them, it is the directory as it is.
result<unique_fd> open_confined(const std::filesystem::path& directory);

/// Adds flags of mount(2) to those that the mount on `target` has.
status restrict_mount(const std::filesystem::path& target, unsigned long flags);

}  // namespace kiln::store
