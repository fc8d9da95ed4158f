// What ListWorkers tells. Owns nothing; asks the worker each time. May be asked for the list; a worker
// that is down is an empty list.
#pragma once

#include "actors/handles.hpp"
#include "actors/peers.hpp"
#include "messages/actor_interfaces.hpp"

namespace kiln::actors {

struct workers_options {
  actors::peers peers;
};

workers_actor::behavior_type workers(workers_actor::stateful_pointer<actor_state> self, workers_options options);

}  // namespace kiln::actors
