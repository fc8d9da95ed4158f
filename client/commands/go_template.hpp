// The part of Go's text/template that `--format` flags are used with: fields, pipelines, if/else, range,
// with, and the functions json, len, index, printf, print, println, eq, ne, lt, le, gt, ge, and, or, not,
// join, lower, upper. Pure.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "client/commands/go_value.hpp"

namespace kiln::client {

struct template_node;

class go_template {
 public:
  /// "json" stands for "{{json .}}". invalid_argument says where the template is wrong.
  /// Source: buildctl common ParseTemplate, Go text/template.
  static result<go_template> parse(std::string_view text);
  /// invalid_argument when a field or function does not fit the value.
  result<std::string> render(const go_value& value) const;

 private:
  std::shared_ptr<const template_node> root_;
};

}  // namespace kiln::client
