// What Kiln calls itself. The BuildKit version is the one whose behaviour we mirror; clients compare it.
#pragma once

namespace kiln::configs {

inline constexpr const char* package_name = "kiln";
inline constexpr const char* version = "0.1.0";
/// Reported as buildkitVersion.version: clients enable features by it.
inline constexpr const char* buildkit_version = "v0.31.0-kiln";
inline constexpr const char* buildkit_package = "github.com/moby/buildkit";
inline constexpr const char* dockerfile_version = "1.24.0";

}  // namespace kiln::configs
