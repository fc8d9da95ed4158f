// One status update as the line of JSON that `--progress=rawjson` and `--trace` write.
// Source: buildkit client/graph.go SolveStatus and Go's encoding/json.
#pragma once

#include <string>

#include "client/progress/status.hpp"

namespace kiln::client {

/// One line, with its newline.
std::string to_json_line(const solve_status& status);

}  // namespace kiln::client
