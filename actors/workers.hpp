// What ListWorkers tells: the worker of this node first, then those of the other nodes that are up, as they
// are now. Owns nothing; asks each time. May be asked for the list; a worker that is down is not on it.
#pragma once

#include "actors/handles.hpp"
#include "actors/peers.hpp"
#include "messages/actor_cluster.hpp"
#include "messages/actor_interfaces.hpp"

namespace kiln::actors {

struct workers_options {
  actors::peers peers;
};

workers_actor::behavior_type workers(workers_actor::stateful_pointer<actor_state> self,
                                     workers_options options);

}  // namespace kiln::actors
