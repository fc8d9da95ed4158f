// Platforms: "os/arch[/variant]" as containerd writes, normalizes and matches them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace pb {
class Platform;
}

namespace kiln {

struct platform {
  std::string os;
  std::string architecture;
  std::string variant;
  std::string os_version;
  std::vector<std::string> os_features;

  bool operator==(const platform&) const = default;
};

template <class Inspector>
auto inspect(Inspector& f, platform& x) {
  return f(x.os, x.architecture, x.variant, x.os_version, x.os_features);
}

/// Parses and normalizes "linux/amd64", "arm64", "linux/arm/v7", "linux(1.2)/amd64".
/// Source: containerd/platforms.
result<platform> parse_platform(std::string_view text);
/// "os/arch[/variant]".
std::string format_platform(const platform& p);
/// Canonical names: x86_64 → amd64, aarch64 → arm64, arm64/v8 → arm64, arm → arm/v7, …
platform normalize(platform p);
/// The platform this machine runs natively.
platform host_platform();
/// Whether an image for `candidate` runs where `wanted` was asked for.
bool matches(const platform& wanted, const platform& candidate);
/// How well `candidate` serves `wanted`: 0 is exact, larger is worse, -1 is not at all.
int match_rank(const platform& wanted, const platform& candidate);

platform from_proto(const pb::Platform& p);
void to_proto(const platform& p, pb::Platform& out);

}  // namespace kiln
