// Numbers and truth values in text, as Go's strconv reads them. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace kiln {

/// "1", "t", "T", "true", "True", "TRUE" and their opposites; nothing else. Source: Go strconv.ParseBool.
std::optional<bool> parse_bool(std::string_view text);
/// A decimal integer, the whole text, with an optional sign; nothing when malformed or out of range.
std::optional<std::int64_t> parse_int(std::string_view text);
/// Digits of a base, the whole text; nothing when malformed or above `max`.
std::optional<std::uint64_t> parse_uint(std::string_view text, int base, std::uint64_t max);

}  // namespace kiln
