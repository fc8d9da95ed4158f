// Shows where in a Dockerfile an error lies, from the error's details.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "client/progress/status.hpp"

namespace kiln::client {

struct source_detail {
  source_info info;
  std::vector<source_range> ranges;
};

/// The Source details of an error, innermost first. Source: buildkit errdefs.Sources, wire.md section 12.
std::vector<source_detail> error_sources(const error& e);
/// "Dockerfile:3", a rule, numbered lines with >>> at the ranges, a rule; empty when the ranges are outside.
/// Source: buildkit solver/errdefs/source.go Print.
std::string render_snippet(const source_detail& detail);
/// Messages of policy denials among the details.
std::vector<std::string> deny_messages(const error& e);

}  // namespace kiln::client
