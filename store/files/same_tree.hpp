// Whether a tree is (still) a copy of another one, hard-linked mostly. Pure file system code.
#pragma once

#include <cstddef>
#include <string>

#include <filesystem>

#include "base/result.hpp"
#include "messages/job.hpp"

namespace kiln::store {

/// True when both have the same names and every entry the same mode, owner, time, target and extended
/// attributes. Content is only read of regular files that are not one inode in both.
result<bool> same_tree(const std::filesystem::path& a, const std::filesystem::path& b,
                       const job_context& job);

/// The text of a symbolic link; `size` as lstat tells it.
result<std::string> link_target(int directory, const std::string& name, std::size_t size);
/// Whether the regular files of that name in two directories have the same bytes.
result<bool> same_content(int a, int b, const std::string& name, const job_context& job);

}  // namespace kiln::store
