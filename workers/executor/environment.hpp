// The environment a process in a container really gets, so that it is the same whichever runtime starts it.
// Pure.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"

namespace kiln::workers {

/// Of equal names the last stays; HOME is `home` unless there is one that is not empty, as runc has it.
/// invalid_argument "invalid environment variable: …" for an entry without "=".
result<std::vector<std::string>> process_environment(const std::vector<std::string>& env,
                                                     const std::string& home);

}  // namespace kiln::workers
