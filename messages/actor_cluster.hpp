// What nodes ask and tell each other, and what a node's cluster actor may be asked by the others on its own
// node, who place work.
#pragma once

#include "messages/actor_interfaces.hpp"
#include "messages/cluster_types.hpp"

namespace kiln {

using hello_atom = caf::atom_constant<caf::atom("hello")>;
using drain_atom = caf::atom_constant<caf::atom("drain")>;
using ask_peers_atom = caf::atom_constant<caf::atom("askpeers")>;

/// Hears which nodes can be given work: an inbound worker to each, its load with every heartbeat, and its
/// end. A node that comes back is a new inbound worker.
using members_listener =
    caf::typed_actor<caf::reacts_to<join_atom, node_info, peer_worker_actor>,
                     caf::reacts_to<node_load, std::string>, caf::reacts_to<leave_atom, std::string>>;

/// One node of the cluster, to the others.
using node_actor = caf::typed_actor<
    /// Opens a link: who asks (its node actor), and the inbound worker to its worker; answered with the
    /// same of this node. failed_precondition when the two cannot work together.
    caf::replies_to<hello_atom, link_hello, caf::strong_actor_ptr,
                    peer_worker_actor>::with<link_hello, peer_worker_actor>,
    /// Answered with the own beat; not_found when that link is not (or no longer) open here.
    caf::replies_to<link_heartbeat>::with<link_heartbeat>,
    /// What this node's database knows.
    caf::replies_to<cache_query>::with<cache_records>,
    /// This node's worker, as it is now.
    caf::replies_to<describe_atom>::with<types::WorkerRecord>,
    /// Take no new work; finish what runs; then leave. Answered at once.
    caf::replies_to<drain_atom>::with<bool>,
    /// That link is closed by its other side, and why.
    caf::reacts_to<leave_atom, std::uint64_t, std::string>>;

/// A node to its own actors.
using cluster_actor = node_actor::extend<
    /// What the other nodes know: waits for those that answer in time (configs/cluster.hpp) and for
    /// nobody else. Empty when there are none.
    caf::replies_to<ask_peers_atom, cache_query>::with<cache_records>,
    /// The other nodes, with their workers as they are now, or were when they last answered in time.
    caf::replies_to<ask_peers_atom, describe_atom>::with<cluster_view>,
    /// Tells a listener all nodes there are, and what changes from now on.
    caf::reacts_to<join_atom, members_listener>, caf::replies_to<list_atom>::with<cluster_view>,
    /// Drains any node by name; not_found for an unknown one.
    caf::replies_to<drain_atom, std::string>::with<bool>,
    /// Drains this node; answered when it has left: true when nothing of others was still here.
    caf::replies_to<drain_atom, done_atom>::with<bool>>;

}  // namespace kiln

CAF_BEGIN_TYPE_ID_BLOCK(kiln_cluster, caf::first_custom_type_id + 2000)
CAF_ADD_TYPE_ID(kiln_cluster, (kiln::node_info))
CAF_ADD_TYPE_ID(kiln_cluster, (kiln::node_load))
CAF_ADD_TYPE_ID(kiln_cluster, (kiln::link_hello))
CAF_ADD_TYPE_ID(kiln_cluster, (kiln::link_heartbeat))
CAF_ADD_TYPE_ID(kiln_cluster, (kiln::cache_query))
CAF_ADD_TYPE_ID(kiln_cluster, (kiln::cluster_view))
CAF_ADD_TYPE_ID(kiln_cluster, (kiln::members_listener))
CAF_END_TYPE_ID_BLOCK(kiln_cluster)
