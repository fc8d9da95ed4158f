// How progress writes amounts, times and names. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "client/progress/status.hpp"

namespace kiln::client {

/// "123B", "1.23kB", "3.62MB": decimal units, two decimals from 1 kB on.
/// Source: tonistiigi/units, format %.2f.
std::string format_bytes(std::int64_t bytes);
/// As format_bytes with the shortest exact decimals ("1.2kB"). Source: tonistiigi/units, format %g.
std::string format_bytes_short(std::int64_t bytes);
/// Seconds between two instants with `decimals` digits.
std::string format_seconds(nanoseconds_t duration, int decimals);
/// RFC 3339 in the local zone, whole seconds.
std::string format_rfc3339_local(nanoseconds_t time);
/// "2026-01-02 03:04:05.678 +0000 UTC". Source: Go time.Time.String for UTC times.
std::string format_go_time(nanoseconds_t time);
/// Cuts after `limit` bytes and marks the cut with "...".
std::string limit_text(std::string_view text, std::size_t limit);

}  // namespace kiln::client
