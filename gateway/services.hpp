// What the gateway stands in front of: workers to the actors of this node, and what it says of itself.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "gateway/transport/ask.hpp"
#include "gateway/session/session_tunnel.hpp"
#include "messages/actor_cluster.hpp"
#include "messages/actor_containers.hpp"

namespace kiln::store {
class blob_store;
}

namespace kiln::gateway {

struct services {
  caf::actor_system* system = nullptr;
  // Functions, because a restarted actor has a new handle; they return null while it is down.
  handle_source<builds_actor> builds;
  handle_source<workers_actor> workers;
  handle_source<cache_manager_actor> cache_manager;
  handle_source<history_actor> history;
  handle_source<containers_actor> containers;  // unset: gateway clients get no containers
  handle_source<cluster_actor> cluster;        // unset: this node is alone
  /// Why this node takes no builds; empty when it does.
  std::string no_builds;
  /// Counts the builds under way; may be null.
  std::shared_ptr<std::atomic<int>> running_builds;
  std::shared_ptr<session_registry> sessions;
  /// Spawns the actor of a session, normally under the sessions' supervisor; a plain spawn when unset.
  session_spawner spawn_session;
  store::blob_store* blobs = nullptr;  // null: no content service

  // Control.Info
  std::string package = "github.com/moby/buildkit";
  std::string version = "v0.0.0+unknown";
  std::string revision;
  std::string dockerfile_version;
};

/// The source of an actor that is never restarted.
template <class Handle>
handle_source<Handle> always(Handle handle) {
  return [handle] { return handle; };
}

}  // namespace kiln::gateway
