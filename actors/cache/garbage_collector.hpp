// Keeps the cache within its policy. Owns when: a second after start and after builds, at most once a
// minute; rules run in order. May be told to collect. Never touches the store: it asks cache_manager,
// and tries again at the next occasion when that is down. Time comes from the actor clock.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "actors/handles.hpp"
#include "actors/peers.hpp"
#include "messages/actor_interfaces.hpp"

namespace kiln::actors {

struct garbage_collector_options {
  std::vector<prune_rule> policy;  // in this order; empty: never collects
  actors::peers peers;             // cache_manager
};

/// It is time to begin.
using due_atom = caf::atom_constant<caf::atom("due")>;

/// Also listens to the prunes it asks for.
using garbage_collector_impl =
    garbage_collector_actor::extend<caf::reacts_to<due_atom>, caf::reacts_to<ctl::UsageRecord>,
                                    caf::reacts_to<done_atom>>;

garbage_collector_impl::behavior_type garbage_collector(
    garbage_collector_impl::stateful_pointer<actor_state> self, garbage_collector_options options);

}  // namespace kiln::actors
