// LLB as text: one JSON object an operation, or a graph for graphviz. Pure.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "ops.pb.h"

namespace kiln::client {

struct llb_op {
  pb::Op op;
  std::string digest;
  pb::OpMetadata metadata;
};

/// invalid_argument when an operation cannot be decoded.
result<std::vector<llb_op>> load_llb(std::string_view bytes);
/// Lines of {"Op":…,"Digest":…,"OpMetadata":…} in the shape of Go's JSON. Source: buildctl debug/dumpllb.go.
std::string llb_json(const std::vector<llb_op>& ops);
std::string llb_dot(const std::vector<llb_op>& ops);

}  // namespace kiln::client
