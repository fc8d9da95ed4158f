// Which part of an input's content matters to an op.
#pragma once

#include <string>
#include <vector>

namespace kiln {

struct content_selector {
  std::string path = "/";
  bool wildcard = false;      // path is a pattern
  bool follow_links = false;  // resolve a trailing symlink
  std::vector<std::string> include_patterns = {};
  std::vector<std::string> exclude_patterns = {};
  std::vector<std::string> required_paths = {};
  bool operator==(const content_selector&) const = default;
};

template <class Inspector>
auto inspect(Inspector& f, content_selector& x) {
  return f(x.path, x.wildcard, x.follow_links, x.include_patterns, x.exclude_patterns, x.required_paths);
}

}  // namespace kiln
