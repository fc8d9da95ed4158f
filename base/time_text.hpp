// Times as JSON texts carry them (RFC 3339 with up to nine fractional digits), and as HTTP headers do. Pure.
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
/// The same with all nine digits.
std::string format_rfc3339_nine(std::int64_t unix_ns);
/// Whole seconds since 1970, whatever the year.
std::string format_rfc3339_seconds(std::int64_t unix_seconds);

/// Nanoseconds since the epoch; nothing when the text is no such time or lies outside 1678–2262
/// (Go's zero time gives no_time).
std::optional<std::int64_t> parse_rfc3339(std::string_view text);
/// The same, but a time further off is the earliest or the latest there is.
std::optional<std::int64_t> parse_rfc3339_clamped(std::string_view text);

/// "Sun, 06 Nov 1994 08:49:37 GMT" of seconds since 1970. Source: RFC 9110, 5.6.7.
std::string format_http_date(std::int64_t unix_seconds);
/// Seconds since 1970 of a date in any of the forms that servers send; nothing when it is none, or lies
/// before.
std::optional<std::int64_t> parse_http_date(const std::string& text);

}  // namespace kiln
