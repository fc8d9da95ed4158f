// kiln::error to grpc::Status and back, details included.
#pragma once

#include <grpcpp/support/status.h>

#include "base/result.hpp"

namespace kiln::gateway {

/// Details travel as google.rpc.Status in `grpc-status-details-bin`. Source: wire.md section 12.
grpc::Status to_grpc(const error& e);
/// The other way; a status without (readable) details keeps code and text.
error from_grpc(const grpc::Status& s);

}  // namespace kiln::gateway
