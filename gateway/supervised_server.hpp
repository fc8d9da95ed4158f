// The server as a child of the supervision tree (docs/architecture.md): an actor with a thread of its own,
// for starting and ending a server waits. It ends its server when it ends; another one on the same listeners
// then takes the connections that come.
#pragma once

#include <cstdint>
#include <memory>

#include <caf/all.hpp>

#include "gateway/server.hpp"
#include "gateway/services.hpp"
#include "messages/actor_cluster.hpp"

namespace kiln::gateway {

using gateway_actor = caf::typed_actor<
    /// As server::drain(), with milliseconds.
    caf::replies_to<drain_atom, std::uint32_t>::with<bool>,
    /// As server::shutdown(); true.
    caf::replies_to<done_atom>::with<bool>>;

/// What `s` points to must outlive the actor. Quits with the error when the server does not start.
caf::actor spawn_gateway(caf::actor_system& system, std::shared_ptr<listeners> on, services s);

}  // namespace kiln::gateway
