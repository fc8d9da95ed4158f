// What Kiln calls itself. The BuildKit version is the one whose behaviour we mirror; clients compare it.
#pragma once

#include <string>

namespace kiln::configs {

inline constexpr const char* package_name = "kiln";
inline constexpr const char* version = "0.1.0";
/// Reported as buildkitVersion.version: clients enable features by it.
inline constexpr const char* buildkit_version = "v0.31.0-kiln";
inline constexpr const char* buildkit_package = "github.com/moby/buildkit";
inline constexpr const char* dockerfile_version = "1.24.0";

/// What --version prints, in the words and order of BuildKit's programs: name, package, version, revision.
inline std::string version_line(const std::string& program) {
  return program + " " + buildkit_package + " " + buildkit_version + " " + package_name + "-" + version;
}

}  // namespace kiln::configs
