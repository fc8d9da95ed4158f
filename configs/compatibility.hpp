// The versions of BuildKit's compatibility: what a client may ask results to be like. Source:
// solver/llbsolver/compat/compat.go.
#pragma once

namespace kiln::configs::compatibility {

constexpr int v0_13 =
    10;  // images have Docker's media types and no zstd, files of git repositories are writable
constexpr int v0_15 = 20;  // files of git repositories have the modes git gives them
constexpr int v0_31 = 30;  // images have OCI's media types, their attestations are OCI artifacts
constexpr int current = v0_31;

constexpr bool is_known(long long version) {
  return version == v0_13 || version == v0_15 || version == v0_31;
}

}  // namespace kiln::configs::compatibility
