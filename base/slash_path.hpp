// Paths with slashes, as text: nothing here looks at a file system. As Go's package path has them. Pure.
#pragma once

#include <string>
#include <string_view>

namespace kiln {

/// The shortest equivalent of a path, lexically: no `.`, `..` only leading, no double or trailing slashes;
/// "." for empty. Source: Go path.Clean.
std::string clean_path(std::string_view path);
/// clean_path of "/" + path: always absolute, never above the root.
std::string clean_absolute(std::string_view path);

/// Both, one below the other, cleaned; empty when both are. Source: Go path.Join.
std::string path_join(std::string_view a, std::string_view b);
/// The last element; "." for the empty path, "/" for slashes only. Source: Go path.Base.
std::string path_base(std::string_view path);
/// All but the last element, cleaned. Source: Go path.Dir.
std::string path_dir(std::string_view path);

}  // namespace kiln
