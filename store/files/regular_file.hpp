// Opening files in trees that builds have written, where a name may be anything: a device, a FIFO, a socket.
// The name is opened without what it stands for (O_PATH), looked at, and only a regular file is then opened
// for its bytes. So no driver is ever asked for anything, nobody waits for a FIFO's other end, and what was
// looked at is what is opened, whoever renames meanwhile. Thread-safe.
#pragma once

#include <fcntl.h>

#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace kiln::store {

/// Opens the entry `name` of a directory; a symlink is not followed. `flags`: O_RDONLY, or O_WRONLY with
/// O_TRUNC or O_APPEND. failed_precondition "…: not a regular file"; a directory is "…: is a directory".
result<unique_fd> open_regular_at(int directory, const std::string& name, int flags = O_RDONLY);

/// The same for a path that is resolved as if `root` were the root directory (see open_in_root).
result<unique_fd> open_regular_in_root(int root, const std::string& path, int flags = O_RDONLY);

/// Opens for its bytes what an O_PATH descriptor stands for; `shown` is what errors call it.
result<unique_fd> open_regular(int path_fd, const std::string& shown, int flags = O_RDONLY);

}  // namespace kiln::store
