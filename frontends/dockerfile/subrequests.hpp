// Questions about a Dockerfile instead of a build of it: targets, outline, lint, LLB.
#pragma once

#include <optional>
#include <string>

#include "frontends/dockerfile/convert.hpp"
#include "gateway.pb.h"

namespace kiln::dockerfile {

/// Answers `requestid`. unimplemented with a Subrequest detail for requests nobody knows.
/// Source: frontend/dockerui/requests.go, frontend/subrequests.
result<moby::buildkit::v1::frontend::Result> answer_subrequest(const std::string& request_id,
                                                               const convert_request& request);

}  // namespace kiln::dockerfile
