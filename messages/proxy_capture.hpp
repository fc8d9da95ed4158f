// What a step fetched through the worker's proxy: what it is made of, as far as that can be told, and what
// cannot. Goes from the worker to the build's provenance, and is kept with the step's results. Pure.
// Source: BuildKit util/network/proxy.go.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace kiln {

/// A body that arrived whole. URLs are in normal form, without passwords.
struct proxied_material {
  std::string url;
  std::string digest;
  bool operator==(const proxied_material&) const = default;
};

/// Something that reached the step, or may have, and is no material.
struct proxied_gap {
  std::string method;
  std::string url;
  std::string reason;  // "unsuccessful_response", …
  bool operator==(const proxied_gap&) const = default;
};

struct proxy_capture {
  std::vector<proxied_material> materials;
  std::vector<proxied_gap> gaps;
  bool operator==(const proxy_capture&) const = default;
};

/// As JSON; never empty.
std::string to_text(const proxy_capture& capture);
/// invalid_argument for what to_text() did not write.
result<proxy_capture> parse_proxy_capture(std::string_view text);

/// Under which key a record keeps what the step of that op (its digest in cache keys) fetched.
std::string capture_key(std::string_view op_digest);

}  // namespace kiln
