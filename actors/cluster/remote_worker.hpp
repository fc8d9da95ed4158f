// All that one actor (mostly a vertex) has on one worker. Owns the promises of what it relays, and hears its
// progress. May be asked whatever another node's worker may; the step dispatcher tells it when the worker's
// node is gone: everything is then answered with unavailable, and it ends. When the actor it stands for goes
// it goes too, and the worker forgets its jobs and pins, as for any requester that dies.
#pragma once

#include "actors/handles.hpp"
#include "messages/actor_interfaces.hpp"

namespace kiln::actors {

struct remote_worker_options {
  peer_worker_actor inbound_worker;  // there; or the worker of this node
  caf::strong_actor_ptr principal;
  std::string node;  // for words
};

using node_lost_atom = caf::atom_constant<caf::atom("nodelost")>;

/// It is told the progress of what it relays, and passes on what that worker may say: of the step, nothing of
/// others.
using remote_worker_impl =
    peer_worker_actor::extend<caf::reacts_to<ctl::StatusResponse>, caf::reacts_to<node_lost_atom>>;

remote_worker_impl::behavior_type remote_worker(remote_worker_impl::stateful_pointer<actor_state> self,
                                                remote_worker_options options);

}  // namespace kiln::actors
