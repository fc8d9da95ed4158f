// What ListWorkers tells: the worker of this node first, then those of the other nodes that are up, as they
// are now. Owns nothing; asks each time. May be asked for the list; a worker that is down is not on it.
#pragma once

#include <functional>
#include <memory>

#include "actors/handles.hpp"
#include "actors/job_pool.hpp"
#include "actors/peers.hpp"
#include "messages/actor_cluster.hpp"
#include "messages/actor_interfaces.hpp"

namespace kiln::actors {

struct workers_options {
  actors::peers peers;
  /// What this node's worker tells of its machine is looked at again; blocking. Null: nothing is.
  std::function<void()> refresh;
  std::shared_ptr<job_pool> io;  // with it
};

using workers_impl = workers_actor::extend<caf::reacts_to<job_done_atom, std::uint64_t>>;

workers_impl::behavior_type workers(workers_impl::stateful_pointer<actor_state> self,
                                    workers_options options);

}  // namespace kiln::actors
