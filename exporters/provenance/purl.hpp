// Package URLs of container images, and what goes with URLs in provenance. Pure.
// Source: BuildKit util/purl/image.go, util/urlutil/redact.go; packageurl-go ToString.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "messages/platform.hpp"

namespace kiln::exporters {

using purl_qualifiers = std::vector<std::pair<std::string, std::string>>;

/// "pkg:docker/alpine@3.19?platform=linux%2Famd64". `type`: "docker" or "oci"; `more` comes after the digest
/// and the platform. invalid_argument when `ref` is no image reference.
result<std::string> image_purl(std::string_view type, std::string_view ref, const std::optional<platform>& p,
                               const purl_qualifiers& more = {});

/// User name and password of a URL replaced by xxxxx; other text as it is.
std::string redact_credentials(std::string_view url);

}  // namespace kiln::exporters
