// What the store asks of files beyond base/files: how much room they take, whether they can have one more
// name, when. Knows nothing of records or blobs. Thread-safe.
#pragma once

#include <cerrno>
#include <cstdint>
#include <filesystem>

#include "base/files.hpp"

namespace kiln::store {

/// Bytes in allocated blocks of a tree; files with several links count once, with `own_only` only where all
/// their links are in the tree.
result<std::int64_t> allocated_bytes(const std::filesystem::path& path, bool own_only = false);

/// Whether a file has as many names as it may have, or is where none can be given to it: then it is copied.
inline bool cannot_be_linked(int err) {
  return err == EMLINK || err == EXDEV || err == EPERM || err == EOPNOTSUPP || err == ENOSYS;
}

/// Nanoseconds since the Unix epoch.
std::int64_t now_ns();

}  // namespace kiln::store
