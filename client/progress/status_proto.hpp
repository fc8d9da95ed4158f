// From the Status stream's protobuf message to the plain status the displays know.
#pragma once

#include "client/progress/status.hpp"

namespace moby::buildkit::v1 {
class StatusResponse;
}

namespace kiln::client {

/// Source: buildkit client/status.go NewSolveStatus.
solve_status from_proto(const moby::buildkit::v1::StatusResponse& response);

}  // namespace kiln::client
