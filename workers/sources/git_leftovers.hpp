// What git leaves in a repository when it is killed: locks that nobody holds, and halves of packs and
// objects.
#pragma once

#include <filesystem>

#include "base/result.hpp"

namespace kiln::workers {

/// Removes all that from a repository's own directory (bare, or a `.git`). Only while no git works there: its
/// locks are files that are there, and it never asks whose.
status remove_git_leftovers(const std::filesystem::path& git_dir);

}  // namespace kiln::workers
