// Directories that an overlay copied up although nothing in them changed for good. Pure file system code.
#pragma once

#include <filesystem>
#include <span>

#include "base/result.hpp"

namespace kiln::store {

/// Removes from the upper directory of an unmounted overlay every empty directory that is in the layers
/// below (bottom first) just the same: mode, owner, time and extended attributes. Such directories stay
/// behind when a file in them came and went, a mount point for instance, and would count as changes. Source:
/// util/overlay/overlay_linux.go, Changes.
status remove_untouched_directories(const std::filesystem::path& upper,
                                    std::span<const std::filesystem::path> below, bool user_namespace);

}  // namespace kiln::store
