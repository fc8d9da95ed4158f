// One process in a client's container, between its listener and the threads that run it. Output waits for
// credit, input waits for the process, signals pass both by. The run itself sends Started, output, Exit and
// Done to the listener, so these come in order and always come; this actor ends with them.
// When the listener goes, or this actor is stopped, the process is killed.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>

#include "actors/handles.hpp"
#include "actors/job_pool.hpp"
#include "messages/actor_containers.hpp"
#include "workers/client_container.hpp"

namespace kiln::actors {

struct process_options {
  gw::ExecMessage init;
  process_listener listener;
  std::shared_ptr<workers::client_container> container;
  std::shared_ptr<job_pool> pool;
  std::stop_token released;  // the container's end
  std::function<void(status)>
      ended;  // called on a pool thread when nothing of the process is left: how it went
};

using process_impl = process_actor::extend<caf::reacts_to<job_done_atom, std::uint64_t>>;

process_impl::behavior_type container_process(process_impl::stateful_pointer<actor_state> self,
                                              process_options options);

}  // namespace kiln::actors
