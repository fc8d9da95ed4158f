// Spawning on a thread that is none of CAF's (gRPC's, a pool's), which may outlive the system. In CAF 0.17.6
// whoever spawns (a caf::scoped_actor, too) leaves a reference to the system's logger with its thread, and
// the system does not end before that has gone. Any thread.
#pragma once

#include <utility>

#include <caf/all.hpp>
#include <caf/logger.hpp>

namespace kiln::actors {

/// system.spawn(args…), of which the thread keeps nothing.
template <class... Args>
auto spawn_outside(caf::actor_system& system, Args&&... args) {
  auto spawned = system.spawn(std::forward<Args>(args)...);
  caf::logger::set_current_actor_system(nullptr);
  return spawned;
}

}  // namespace kiln::actors
