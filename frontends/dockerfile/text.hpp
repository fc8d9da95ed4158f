// White space and sizes as the Go functions read them that Dockerfile users depend on; the rest of what
// Dockerfiles are read with is in base/. Pure.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/duration.hpp"
#include "base/numbers.hpp"
#include "base/quoting.hpp"
#include "base/result.hpp"
#include "base/slash_path.hpp"
#include "base/text.hpp"
#include "base/utf8.hpp"

namespace kiln::dockerfile {

/// Go's unicode.IsSpace.
bool is_space(char32_t c);
/// Go's strings.TrimSpace.
std::string_view trim_space(std::string_view text);
std::string_view trim_space_left(std::string_view text);

/// "64m", "1.5GiB", "10" in bytes. Source: docker/go-units RAMInBytes.
result<std::int64_t> ram_in_bytes(std::string_view text);

}  // namespace kiln::dockerfile
