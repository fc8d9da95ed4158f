// The Session call: a byte stream inside messages, inside which the client is the gRPC server.
// A socketpair joins it to a gRPC channel of ours; the pump moves bytes with back-pressure both ways.
// Source: wire.md section 5; BuildKit session/grpchijack.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <functional>
#include <memory>

#include "actors/session/session.hpp"
#include "control.pb.h"
#include "gateway/session/session_registry.hpp"
#include "gateway/session/tunnel_pump.hpp"

namespace grpc {
class CallbackServerContext;
}

namespace kiln::gateway {

/// Starts the actor that watches over a session.
using session_spawner = std::function<session_actor(session_options)>;

using session_reactor = grpc::ServerBidiReactor<ctl::BytesMessage, ctl::BytesMessage>;

/// Opens the tunnel of a Session call. The reactor owns itself and ends, in any order: when the client
/// half-closes or vanishes, when the inner connection ends, when its actor says so. `pump` and `registry`
/// must outlive the call.
session_reactor* open_session_tunnel(grpc::CallbackServerContext* context, tunnel_pump& pump,
                                     std::shared_ptr<session_registry> registry,
                                     const session_spawner& spawn);

}  // namespace kiln::gateway
