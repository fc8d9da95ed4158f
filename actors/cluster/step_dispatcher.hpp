// Stands where a lone node has its worker, once there is a cluster: decides which node runs each step. Owns
// the queue of steps (actors/cluster/step_scheduler.hpp) and the remote workers. May be asked whatever a
// worker may, with refs of any node; hears from the cluster which nodes there are. When a node dies its steps
// are placed again, elsewhere, and questions about its refs are answered with data_loss. When a requester
// dies its remote workers and queued steps go. Exports, imports and sources are the local worker's, which
// fetches what it lacks.
#pragma once

#include <functional>
#include <string>

#include "actors/handles.hpp"
#include "messages/actor_cluster.hpp"
#include "messages/session_grants.hpp"

namespace kiln::actors {

struct step_dispatcher_options {
  node_info self;
  std::function<worker_actor()> worker;    // the local one; null while it is down
  std::function<cluster_actor()> cluster;  // null while it is down
  /// Told of every other node before anything is given to it, and when it has gone; may be null.
  std::function<void(const node_info&)> node_up = nullptr;
  std::function<void(const std::string&)> node_down = nullptr;
  /// Knows what every other node may ask of the sessions here, as long as it does something for them; may be
  /// null.
  std::shared_ptr<session_grants> grants = nullptr;
};

using step_dispatcher_actor = worker_actor::extend_with<members_listener>;
/// It is time to look for the cluster actor again.
using seek_atom = caf::atom_constant<caf::atom("seek")>;
/// A step has waited for its node long enough to be given to another.
using assign_atom = caf::atom_constant<caf::atom("assign")>;

using step_dispatcher_impl =
    step_dispatcher_actor::extend<caf::reacts_to<seek_atom>, caf::reacts_to<assign_atom>>;

step_dispatcher_impl::behavior_type step_dispatcher(step_dispatcher_impl::stateful_pointer<actor_state> self,
                                                    step_dispatcher_options options);

}  // namespace kiln::actors
