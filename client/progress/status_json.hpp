// One status update as the line of JSON that `--progress=rawjson` and `--trace` write.
// Source: buildkit client/graph.go SolveStatus and Go's encoding/json.
#pragma once

#include <string>
#include <string_view>

#include "client/progress/status.hpp"

namespace kiln::client {

/// One line, with its newline.
std::string to_json_line(const solve_status& status);
/// A JSON string literal as Go writes it: <, > and & escaped too when `html`.
std::string json_quote(std::string_view text, bool html = true);

}  // namespace kiln::client
