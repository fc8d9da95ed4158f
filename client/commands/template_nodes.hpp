// A Go template as it was parsed, and who parses it. Pure.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "client/commands/go_value.hpp"

namespace kiln::client {

/// One node: text, an action, or a block with its branches.
struct template_node {
  enum class kind { list, text, action, branch_if, branch_range, branch_with };
  struct operand {
    enum class kind { dot, root, field, literal, pipeline, function };
    kind what = kind::dot;
    std::vector<std::string> path;  // after dot, root or a pipeline in parentheses
    go_value literal;
    std::string function;
    std::shared_ptr<template_node> inner;  // its pipeline
  };
  using command = std::vector<operand>;  // a function and its arguments, or one value

  kind what = kind::list;
  std::string text;
  std::vector<command> pipeline;
  std::vector<std::shared_ptr<template_node>> children;
  std::vector<std::shared_ptr<template_node>> otherwise;
};

/// What is wrong with a template or its use.
error template_error(std::string why);

/// invalid_argument when it is no template. Nested no deeper than 64.
result<std::shared_ptr<template_node>> parse_template(std::string_view text);

}  // namespace kiln::client
