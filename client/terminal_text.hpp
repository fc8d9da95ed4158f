// What the commands say on standard output. Names, descriptions and errors in it come from daemons and
// builds.
#pragma once

#include <string_view>

#include <unistd.h>

#include "base/plain_text.hpp"
#include "client/fd.hpp"

namespace kiln::client {

/// Text for people; data goes by write_all.
inline status print(std::string_view text) { return write_all(STDOUT_FILENO, printable(text)); }

}  // namespace kiln::client
