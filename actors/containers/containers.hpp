// The containers of gateway clients on this node. Owns each container and its processes; a container
// goes with its build. May be asked to make and release containers, to look at their files and to start
// processes in them (messages/actor_containers.hpp). Everything that blocks runs on pools. When a build
// dies its containers are released; when this actor dies every process is killed and every container
// is unmounted as its last process ends.
#pragma once

#include <functional>
#include <memory>

#include "actors/handles.hpp"
#include "actors/job_pool.hpp"
#include "messages/actor_containers.hpp"
#include "workers/client_container.hpp"

namespace kiln::actors {

/// Its name in the actor registry.
inline constexpr const char* containers_name = "containers";

struct containers_options {
  /// Makes a container; blocking. The refs in `inputs` are record ids, one a mount.
  std::function<result<std::shared_ptr<workers::client_container>>(const gw::NewContainerRequest& request,
                                                                   const container_inputs& inputs)>
      make;
  std::shared_ptr<job_pool> calls;  // making: layers may have to be fetched; releasing: processes have to end
  std::shared_ptr<job_pool> io;     // looking at files
  std::shared_ptr<job_pool> processes;  // configs::containers::processes_max × threads_per_process threads
};

using containers_impl = containers_actor::extend<caf::reacts_to<job_done_atom, std::uint64_t>>;

containers_impl::behavior_type containers(containers_impl::stateful_pointer<actor_state> self,
                                          containers_options options);

}  // namespace kiln::actors
