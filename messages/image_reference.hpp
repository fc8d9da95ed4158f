// Names of images: "[domain/]path[:tag][@digest]" and their normal form. Pure text.
// Source: github.com/distribution/reference (grammar, normalization, familiar names).
#pragma once

#include <string>
#include <string_view>

#include "base/digest.hpp"

namespace kiln {

/// A normalized name: "alpine" has domain "docker.io" and path "library/alpine".
struct image_reference {
  std::string domain;
  std::string path;
  std::string tag;      // may be empty
  kiln::digest digest;  // may be empty

  /// "docker.io/library/alpine".
  std::string name() const { return domain + "/" + path; }
  /// The whole: "docker.io/library/alpine:3.19@sha256:…".
  std::string str() const;
  /// As users write it: "alpine:3.19".
  std::string familiar() const;
  std::string familiar_name() const;
  bool name_only() const { return tag.empty() && digest.empty(); }
  /// With tag "latest" when there is neither tag nor digest.
  image_reference tagged() const;
  bool operator==(const image_reference&) const = default;
};

/// Parses and normalizes; invalid_argument with the texts Docker users know, which do not say what was
/// parsed.
result<image_reference> parse_image_reference(std::string_view text);
/// The same; the error names the text.
result<image_reference> read_image_reference(std::string_view text);

}  // namespace kiln
