// Descriptors of content, as in the OCI image specification.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/digest.hpp"
#include "messages/platform.hpp"

namespace kiln {

struct descriptor {
  std::string media_type;
  kiln::digest digest;
  std::int64_t size = 0;  // bytes
  std::map<std::string, std::string> annotations;
  std::vector<std::string> urls;
  std::optional<kiln::platform> platform;
  std::string artifact_type;

  bool operator==(const descriptor&) const = default;
};

template <class Inspector>
auto inspect(Inspector& f, descriptor& x) {
  return f(x.media_type, x.digest, x.size, x.annotations, x.urls, x.platform, x.artifact_type);
}

}  // namespace kiln
