// Small text helpers with the exact semantics of the Go functions that Dockerfile users depend on.
// Pure and thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "messages/result.hpp"

namespace kiln::dockerfile {

/// One code point at `at`; a malformed byte stands for itself.
struct code_point {
  char32_t value;
  std::size_t width;
};
code_point decode(std::string_view text, std::size_t at);
void append_utf8(std::string& out, char32_t c);

/// Go's unicode.IsSpace.
bool is_space(char32_t c);
/// Go's strings.TrimSpace.
std::string_view trim_space(std::string_view text);
std::string_view trim_space_left(std::string_view text);

std::string to_lower(std::string_view text);
std::string to_upper(std::string_view text);
bool equal_fold(std::string_view a, std::string_view b);

std::vector<std::string> split(std::string_view text, char separator);
/// Text before and after the first separator, and whether there was one.
struct cut_result {
  std::string before, after;
  bool found = false;
};
cut_result cut(std::string_view text, std::string_view separator);
std::string join(const std::vector<std::string>& parts, std::string_view separator);

/// Go's %q of a string.
std::string quote(std::string_view text);
/// Go's %q of a list: `["a" "b"]`.
std::string quote(const std::vector<std::string>& items);
/// Go's %v of a list: `[a b]`.
std::string bracketed(const std::vector<std::string>& items);

/// Go's strconv.ParseBool.
std::optional<bool> parse_bool(std::string_view text);
/// A decimal integer, whole text, optional sign; nullopt when malformed or out of range.
std::optional<std::int64_t> parse_int(std::string_view text);
std::optional<std::uint64_t> parse_uint(std::string_view text, int base, std::uint64_t max);

/// Go's time.ParseDuration, in nanoseconds. Errors as Go words them.
result<std::int64_t> parse_duration(std::string_view text);
/// Go's Duration.String().
std::string format_duration(std::int64_t nanoseconds);

/// "64m", "1.5GiB", "10" in bytes. Source: docker/go-units RAMInBytes.
result<std::int64_t> ram_in_bytes(std::string_view text);

/// Go's path.Join.
std::string path_join(std::string_view a, std::string_view b);
/// Go's path.Base.
std::string path_base(std::string_view path);
/// Go's path.Dir.
std::string path_dir(std::string_view path);

/// Unix seconds as "2006-01-02T15:04:05Z".
std::string format_time(std::int64_t unix_seconds);

}  // namespace kiln::dockerfile
