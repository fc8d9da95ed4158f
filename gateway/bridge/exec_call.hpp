// ExecProcess: the processes one client runs in containers, multiplexed on one stream by their ids.
// Input is read no faster than processes take it, output is produced no faster than the client takes it.
#pragma once

#include "gateway.pb.h"
#include "gateway/transport/reactors.hpp"
#include "messages/actor_containers.hpp"

namespace kiln::gateway {

using exec_reactor = grpc::ServerBidiReactor<gw::ExecMessage, gw::ExecMessage>;

/// Which build a call belongs to: one that is known, or one to be found by its ref.
struct build_lookup {
  build_actor known;
  builds_actor builds;
  std::string ref;
};

/// The reactor owns itself. When the client leaves, its processes are killed. Errors in what the client
/// sends (unknown process, unknown signal) end the stream, as in BuildKit frontend/gateway/gateway.go.
exec_reactor* open_exec_call(caf::actor_system& system, const build_lookup& lookup,
                             const containers_actor& containers);
/// A stream that only ever fails.
exec_reactor* refuse_exec_call(const error& e);

}  // namespace kiln::gateway
