// One node of the cluster among the others. Owns the links (membership), whom to dial (dialler), the
// questions that are open (peer_questions), how it leaves (departure), and an inbound worker for each link.
//
// A link is opened by a hello over a connection that the options' `dial` made, and lives while both sides
// hear each other's heartbeats; a node that misses them is dead also when its connection stands. Whoever ends
// a link ends its inbound worker, tells the listeners, and dials again; a node that comes back is a new link
// and a new inbound worker. Addresses come from the seeds, from hellos, and from what linked nodes say of
// their neighbours.
//
// Nothing that another node says is trusted further than configs/cluster.hpp allows: sizes and names are
// checked, and only the node that a link leads to can speak for it. A peer that dies ends its link; a
// listener that dies is dropped; when this actor dies its workers go with it, and the other nodes see it die.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "actors/handles.hpp"
#include "actors/job_pool.hpp"
#include "configs/cluster.hpp"
#include "messages/actor_cluster.hpp"

namespace kiln::store {
class cache_keys;
}

namespace kiln::actors {

/// Label of workers in a cluster: the name of their node.
inline constexpr const char* node_label = "kiln.node";

struct cluster_options {
  node_info self;
  std::vector<std::string> seeds;
  /// The node behind an address. Blocking, and bounded by configs::cluster::dial_time.
  std::function<result<node_actor>(const std::string& address)> dial;
  /// The addresses that a seed stands for. Blocking.
  std::function<result<std::vector<std::string>>(const std::string& seed)> resolve;
  /// Why the node behind a handle may not be called so, as what its certificate "…"; empty when it may. Null:
  /// all may.
  std::function<std::string(const caf::node_id& node, const std::string& name)> misnamed = nullptr;
  std::function<worker_actor()> worker;     // the local one; null while it restarts
  const store::cache_keys* keys = nullptr;  // outlives the actor system
  /// Bytes moved, refs kept, disk free. Blocking; null: nothing is known.
  std::function<node_load()> counters;
  /// Whether builds run here that may use other nodes: a drained node does not leave before they are done.
  /// Thread-safe.
  std::function<bool()> coordinates = [] { return false; };
  std::uint64_t seed = 0;  // of the link ids
  std::chrono::nanoseconds heartbeat_interval = configs::cluster::heartbeat_interval;
  std::chrono::nanoseconds dead_after = configs::cluster::dead_after;
  std::chrono::nanoseconds peer_answer_time = configs::cluster::peer_answer_time;
  std::chrono::nanoseconds drain_grace = configs::cluster::drain_grace;
  std::shared_ptr<job_pool> dials, io;
};

/// It is time for a heartbeat.
using heartbeat_atom = caf::atom_constant<caf::atom("heartbeat")>;

using cluster_impl =
    cluster_actor::extend<caf::reacts_to<heartbeat_atom>, caf::reacts_to<job_done_atom, std::uint64_t>>;

cluster_impl::behavior_type cluster(cluster_impl::stateful_pointer<actor_state> self,
                                    cluster_options options);

}  // namespace kiln::actors
