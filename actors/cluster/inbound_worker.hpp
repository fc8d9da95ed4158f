// What one other node holds of our worker: one inbound worker a link. Owns who came through it. Passes what
// one node may ask of another's worker (peer_worker_actor: steps, looks at refs) on with its sender, so that
// jobs and pins belong to whoever asked over there; refuses sources, and work while draining or when this
// node only coordinates. A sender that dies is forgotten (the worker sees it itself); when the inbound worker
// ends, the worker is told to forget everyone who came through. A worker that is down is `unavailable`.
#pragma once

#include <functional>
#include <string>

#include "actors/handles.hpp"
#include "messages/actor_cluster.hpp"

namespace kiln::actors {

struct inbound_worker_options {
  std::function<worker_actor()> worker;  // the local one; null while it restarts
  std::string node;                      // name of this node
  node_role role = node_role::both;
  bool draining = false;
};

using inbound_worker_impl = peer_worker_actor::extend<
    /// Take no new work.
    caf::reacts_to<drain_atom>,
    /// How many came through and are still there.
    caf::replies_to<list_atom>::with<std::uint64_t>>;

inbound_worker_impl::behavior_type inbound_worker(inbound_worker_impl::stateful_pointer<actor_state> self,
                                                  inbound_worker_options options);

}  // namespace kiln::actors
