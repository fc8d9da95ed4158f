// Small files of the client's, which other clients may be writing too.
#pragma once

#include <cerrno>
#include <string>
#include <string_view>

#include <fcntl.h>
#include <unistd.h>

#include "base/files.hpp"

namespace kiln::client {

/// Replaces a file in one step: temporary file beside it (of a name that no other writer uses), fsync,
/// rename. Mode as given, less the umask. For files of ours; those that users name are output_file's.
status write_file_atomically(const std::string& path, std::string_view bytes, unsigned mode);

}  // namespace kiln::client
