// kiln::error to google.rpc.Status and back: the form errors have inside messages and in the header
// `grpc-status-details-bin`. Knows nothing of gRPC.
#pragma once

#include "base/result.hpp"

namespace google::rpc {
class Status;
}

namespace kiln {

/// Details become Any{type_url, JSON text}. Source: wire.md section 12.
void to_rpc_status(const error& e, google::rpc::Status& out);
/// Unknown codes become `unknown`; details of types we do not know are kept as they are.
error from_rpc_status(const google::rpc::Status& s);

}  // namespace kiln
