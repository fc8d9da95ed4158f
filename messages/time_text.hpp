// Times as JSON texts carry them: RFC 3339 with up to nine fractional digits. Pure.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

namespace kiln {

/// Go's zero time ("0001-01-01T00:00:00Z"), which no count of nanoseconds since 1970 can express.
inline constexpr std::int64_t no_time = std::numeric_limits<std::int64_t>::min();

/// In UTC, with as many fractional digits as needed. Source: Go time.RFC3339Nano.
std::string format_rfc3339(std::int64_t unix_ns);

/// Nanoseconds since the epoch; nothing when the text is no such time or lies outside 1678–2262
/// (Go's zero time gives no_time).
std::optional<std::int64_t> parse_rfc3339(std::string_view text);

}  // namespace kiln
