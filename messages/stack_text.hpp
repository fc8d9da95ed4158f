// Where an error came about, as text: the Stack details that daemons add to it. Pure.
// Source: BuildKit util/stack/stack.go, Formatter.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace kiln {

constexpr std::string_view stack_detail_type = "github.com/moby/buildkit/stack.Stack+json";

/// For each stack who it was ("PID VERSION COMMAND LINE") and its frames (the function, then file and line
/// below it), an empty line after each; empty when the error tells of none.
std::string stack_text(const error& e);

}  // namespace kiln
