// Kiln's supervision tree (docs/architecture.md): which actors there are, in which order they start, and what
// dies with what. Knows nothing of configuration files, sockets or gRPC.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "actors/build/build.hpp"
#include "actors/solve/build_graph.hpp"
#include "actors/cache/cache_manager.hpp"
#include "actors/containers/containers.hpp"
#include "actors/cache/garbage_collector.hpp"
#include "actors/history/history.hpp"
#include "actors/cluster/step_dispatcher.hpp"
#include "actors/worker/worker.hpp"
#include "actors/workers.hpp"
#include "supervisors/supervisor.hpp"

namespace kiln::supervision {

struct tree_options {
  std::shared_ptr<actor_registry> registry;
  actors::cache_manager_options cache_manager;
  actors::garbage_collector_options garbage_collector;
  actors::history_options history;
  actors::worker_options worker;
  actors::workers_options workers;
  actors::containers_options containers;
  actors::build_graph_options build_graph;
  actors::build_options build;  // what every build shares; its request is filled in
  std::optional<actors::step_dispatcher_options> step_dispatcher;  // of a node in a cluster
  /// Starts this node's part in a cluster; unset: the node is alone.
  std::function<caf::actor(caf::actor_system&)> cluster;
  /// Starts the server that clients call; unset: there is none.
  std::function<caf::actor(caf::actor_system&)> gateway;
  /// As supervisor_options::started, of every supervisor. May be empty.
  std::function<void(const std::string& id)> started;
};

/// Registry name of the actor that has the server.
inline constexpr const char* gateway_name = "gateway";

/// Registry name of the supervisor that adopts session actors.
inline constexpr const char* sessions_name = "sessions";

/// Spawns root and, through it, everything else, and waits until each actor is in the registry under its name
/// of actors::peers: until then whoever asks is told to try again. Root quits with an error when it gives up,
/// which is the error here when a start fails. Blocking; not on a thread of the system's.
result<caf::actor> start_daemon_tree(caf::actor_system& system, tree_options options);

}  // namespace kiln::supervision
