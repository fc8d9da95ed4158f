// Image names: "busybox", "ghcr.io/a/b:tag@sha256:…" and their normalized forms. Pure text.
#pragma once

#include <string>
#include <string_view>

#include "messages/result.hpp"

namespace kiln::frontends {

struct image_reference {
  std::string domain;  // docker.io
  std::string path;    // library/busybox
  std::string tag;
  std::string digest;

  /// "docker.io/library/busybox:tag@digest".
  std::string str() const;
  /// "docker.io/library/busybox".
  std::string name() const { return domain + "/" + path; }
  /// As users write it: "busybox:tag".
  std::string familiar() const;
  /// Adds ":latest" when there is neither tag nor digest.
  image_reference with_default_tag() const;
};

/// invalid_argument "invalid reference format" and its kin. Source: distribution/reference
/// ParseNormalizedNamed.
result<image_reference> parse_image_reference(std::string_view text);

}  // namespace kiln::frontends
