// Lengths of time as Go writes them: "1h30m", "250ms". Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace kiln {

/// "1h30m", "250ms", "-1.5s", "0" in nanoseconds. invalid_argument in Go's words ("time: invalid duration
/// "x""). Source: Go time.ParseDuration.
result<std::int64_t> parse_duration(std::string_view text);
/// "1h30m0s", "1.5ms", "0s". Source: Go time.Duration.String.
std::string format_duration(std::int64_t nanoseconds);

}  // namespace kiln
