// One build: from its Solve request to the response. Owns its frontends' threads, its results (refs by
// random id), its progress and its place in the history. May be asked everything LLBBridge offers, to
// be watched, to be cancelled. Definitions are loaded and vertices placed only when a result is needed.
// When the worker or build_graph dies the build fails; when its requester dies `builds` cancels it.
// Whatever ends the actor, its frontends are stopped and every waiting question is answered.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "actors/build/build_attestations.hpp"
#include "actors/build/frontend_bridge.hpp"
#include "actors/handles.hpp"
#include "actors/job_pool.hpp"
#include "actors/peers.hpp"
#include "frontends/frontend.hpp"
#include "messages/actor_containers.hpp"

namespace kiln::store {
class ref_store;
}
namespace kiln::workers {
class resolution_table;
class resolutions;
}  // namespace kiln::workers

namespace kiln::actors {

struct build_options {
  ctl::SolveRequest request;
  actors::peers peers;                    // worker, build_graph, history
  session_directory* sessions = nullptr;  // for what clients say about sources; null: nobody to ask
  store::ref_store* store = nullptr;      // for the log of finished builds; null: none is kept
  /// The frontend of that name ("dockerfile.v0", "gateway.v0"); null when there is none.
  std::function<std::unique_ptr<frontends::frontend>(const std::string& name)> frontend;
  std::vector<std::string> allowed_entitlements;  // by the daemon
  bool proxy_network = false;                     // steps reach the network through a proxy, whoever asks
  provenance_settings provenance;                 // shared by all builds
  std::shared_ptr<workers::resolution_table>
      builds;                                      // what their sources lead to; null: nothing is remembered
  std::shared_ptr<layered_pool> frontend_threads;  // by depth of frontends that call frontends
  std::shared_ptr<job_pool> io, calls;             // short work; what waits for clients
};

/// Time to look at what the machine uses.
using look_atom = caf::atom_constant<caf::atom("look")>;
/// Nobody has said yet what the workers are: whoever watches the build is told what it waits for.
using tell_wait_atom = caf::atom_constant<caf::atom("tellwait")>;

using build_impl = build_actor::extend<
    caf::replies_to<container_inputs>::with<container_inputs>,  // container_lender
    /// The questions of a frontend: its scope in the build's requests and what it asks.
    caf::replies_to<std::int32_t, gw::SolveRequest>::with<gw::SolveResponse>,
    caf::replies_to<std::int32_t, gw::ResolveImageConfigRequest>::with<gw::ResolveImageConfigResponse>,
    caf::replies_to<std::int32_t, gw::ResolveSourceMetaRequest>::with<gw::ResolveSourceMetaResponse>,
    caf::replies_to<start_atom>::with<ctl::SolveResponse>,  // once, by `builds`
    caf::reacts_to<watch_atom, status_listener>, caf::reacts_to<ctl::StatusResponse>,
    caf::reacts_to<serve_atom>, caf::reacts_to<tell_wait_atom>, caf::reacts_to<job_done_atom, std::uint64_t>,
    caf::reacts_to<look_atom>>;

build_impl::behavior_type build(build_impl::stateful_pointer<actor_state> self, build_options options);

}  // namespace kiln::actors
