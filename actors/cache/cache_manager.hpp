// Usage of cache records, and their removal. Owns the order of prunes: one at a time. May be asked for
// usage, to prune (telling a listener of each record), and that garbage be collected, which it passes to
// the garbage collector. A listener that dies only misses its records.
#pragma once

#include <memory>

#include "actors/handles.hpp"
#include "actors/job_pool.hpp"
#include "actors/peers.hpp"
#include "messages/actor_interfaces.hpp"

namespace kiln::store {
class ref_store;
}

namespace kiln::actors {

struct cache_manager_options {
  store::ref_store* store = nullptr;
  actors::peers peers;  // garbage collector
  std::shared_ptr<job_pool> io;
};

using cache_manager_impl = cache_manager_actor::extend<caf::reacts_to<job_done_atom, std::uint64_t>>;

cache_manager_impl::behavior_type cache_manager(cache_manager_impl::stateful_pointer<actor_state> self,
                                                cache_manager_options options);

}  // namespace kiln::actors
