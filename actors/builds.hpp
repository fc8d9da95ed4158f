// All builds of this node. Owns which refs are taken, who waits for a ref to appear, and the builds
// themselves. May be asked to solve, to find, to watch, to cancel. The requester of a build dying
// cancels it; a build dying is an error to its requester. Finished builds stay visible for 10 s.
// Source: control/control.go, solver/jobs.go.
#pragma once

#include <memory>

#include "actors/build/build.hpp"
#include "actors/handles.hpp"
#include "actors/peers.hpp"
#include "messages/actor_interfaces.hpp"

namespace kiln::actors {

struct builds_options {
  build_options build;  // request is filled in for each
};

/// A build that ended has been visible for long enough.
using forget_atom = caf::atom_constant<caf::atom("forget")>;
/// Who looks for a build, by number, has waited for long enough.
using give_up_atom = caf::atom_constant<caf::atom("giveup")>;

using builds_impl = builds_actor::extend<caf::reacts_to<forget_atom, std::string>,
                                         caf::reacts_to<give_up_atom, std::uint64_t>>;

builds_impl::behavior_type builds(builds_impl::stateful_pointer<actor_state> self, builds_options options);

}  // namespace kiln::actors
