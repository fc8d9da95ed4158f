// The client's main: arguments in, exit code out.
#pragma once

#include <string>
#include <vector>

namespace kiln::client {

/// `program` is the name it was called by. Errors go to stderr; 1 on failure.
int run(const std::string& program, const std::vector<std::string>& arguments);

}  // namespace kiln::client
