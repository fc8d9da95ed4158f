// The newest file of a tar archive. Pure; reads memory only.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace kiln::dockerfile {

/// Seconds since 1970 of the newest regular file in a tar (plain or compressed); nullopt if it is no archive
/// or holds no files.
std::optional<std::int64_t> newest_in_archive(std::string_view bytes);

}  // namespace kiln::dockerfile
