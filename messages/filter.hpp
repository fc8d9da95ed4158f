// containerd's filter expressions: `field==value`, `field!=value`, `field~=regexp`, `field` (presence),
// joined by commas. Used by du, prune, ListWorkers and the build history. Thread-safe once parsed.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace kiln {

/// Any of several expressions, each a conjunction of selectors.
class filter {
 public:
  /// What a field path ({"labels", "a.b"}) holds; nothing when absent. A present field may be empty.
  using lookup = std::function<std::optional<std::string>(std::span<const std::string> path)>;

  /// An empty list and an empty expression match everything. invalid_argument with containerd's text
  /// ("filters: parse error: [type >|=|< x]: …"). Source: containerd pkg/filters.
  static result<filter> parse(const std::vector<std::string>& expressions);

  bool matches(const lookup& field) const;

 private:
  enum class op { present, equal, not_equal, matches };
  struct regexp;
  struct selector {
    std::vector<std::string> path;
    op operation = op::present;
    std::string value;
    std::shared_ptr<const regexp> compiled;
  };
  friend class filter_parser;
  std::vector<std::vector<selector>> any_;
};

}  // namespace kiln
