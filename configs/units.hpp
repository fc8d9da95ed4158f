// The units of the config file: disk sizes. Pure.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.hpp"

namespace kiln::configs {

/// Bytes as an integer, with a binary unit ("512MB", "1.5g"), or "10%" of `disk_total` (rounded up
/// to the next GB; 2e9 when the disk's size is unknown, 0). Source: BuildKit cmd/buildkitd/config.
result<std::int64_t> parse_disk_space(std::string_view text, std::int64_t disk_total);

}  // namespace kiln::configs
