// What every process in a container begins with, whichever runtime starts it.
#pragma once

namespace kiln::configs {

inline constexpr int process_umask = 0022;

}  // namespace kiln::configs
