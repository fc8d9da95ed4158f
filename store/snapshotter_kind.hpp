// What makes snapshot directories into file systems.
#pragma once

#include <string_view>

#include "base/result.hpp"

namespace kiln::store {

enum class snapshotter_kind { automatic, overlayfs, fuse_overlayfs, native };
result<snapshotter_kind> parse_snapshotter(std::string_view text);
std::string_view to_string(snapshotter_kind k);

}  // namespace kiln::store
