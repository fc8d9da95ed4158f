// Starts a program where nothing but the kernel can help it: in an empty directory that is its root. So an
// interpreter that containers would not see (binfmt_misc without the flag F) is not there for it either.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.hpp"

namespace kiln::workers {

/// Its exit code. Blocking, for a few milliseconds. `root`: an empty directory on a file system that programs
/// may be started from; the program stays there. unimplemented: the kernel does not know what the program is;
/// not_found: its interpreter is not to be had in there; otherwise what else went wrong.
result<int> probe_program(const std::filesystem::path& root, const std::string& program);

}  // namespace kiln::workers
