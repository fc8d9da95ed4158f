// Whether a tree is (still) a copy of another one, hard-linked mostly. Pure file system code.
#pragma once

#include <filesystem>

#include "messages/job.hpp"
#include "messages/result.hpp"

namespace kiln::store {

/// True when both have the same names and every entry the same mode, owner, time, target and extended
/// attributes. Content is only read of regular files that are not one inode in both.
result<bool> same_tree(const std::filesystem::path& a, const std::filesystem::path& b, const job_context& job);

}  // namespace kiln::store
