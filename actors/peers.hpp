// Where actors find each other: by name in the registry, looked up at each use, because a restarted
// actor is a new handle.
#pragma once

#include <memory>

#include "messages/actor_cluster.hpp"
#include "messages/actor_error.hpp"
#include "messages/actor_interfaces.hpp"
#include "messages/actor_registry.hpp"

namespace kiln::actors {

struct peers {
  std::shared_ptr<actor_registry> registry;

  static constexpr const char* worker_name =
      "worker";  // whoever runs steps: the local worker, or the step dispatcher
  static constexpr const char* local_worker_name = "local_worker";  // of a node in a cluster
  static constexpr const char* cluster_name = "cluster";
  static constexpr const char* workers_name = "workers";
  static constexpr const char* build_graph_name = "build_graph";
  static constexpr const char* builds_name = "builds";
  static constexpr const char* cache_manager_name = "cache_manager";
  static constexpr const char* garbage_collector_name = "garbage_collector";
  static constexpr const char* history_name = "history";

  worker_actor worker() const { return registry->get<worker_actor>(worker_name); }
  worker_actor local_worker() const { return registry->get<worker_actor>(local_worker_name); }
  cluster_actor cluster() const { return registry->get<cluster_actor>(peers::cluster_name); }
  workers_actor workers() const { return registry->get<workers_actor>(workers_name); }
  build_graph_actor build_graph() const { return registry->get<build_graph_actor>(build_graph_name); }
  builds_actor builds() const { return registry->get<builds_actor>(builds_name); }
  cache_manager_actor cache_manager() const { return registry->get<cache_manager_actor>(cache_manager_name); }
  garbage_collector_actor garbage_collector() const {
    return registry->get<garbage_collector_actor>(garbage_collector_name);
  }
  history_actor history() const { return registry->get<history_actor>(history_name); }
};

/// What a request to a peer that is down is answered with.
inline caf::error peer_down(const char* name) {
  return to_caf(make_error(errc::unavailable, std::string(name) + " is restarting, try again"));
}

}  // namespace kiln::actors
