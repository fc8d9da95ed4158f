// The directory of running vertices: by definition and by cache key. Owns who holds which vertex.
// May be asked to place a definition for a holder, to release one, and to claim keys. A large definition is
// placed, and released, some vertices at a time; a release ends the placing. A holder that dies is released;
// a vertex that dies is forgotten, and its holders learn it from their requests; a vertex that nobody holds
// is ended.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "actors/handles.hpp"
#include "actors/job_pool.hpp"
#include "actors/peers.hpp"
#include "configs/graph.hpp"
#include "exporters/cache/import_table.hpp"
#include "messages/actor_interfaces.hpp"
#include "store/database/cache_keys.hpp"

namespace kiln::store {
class ref_store;
}
namespace kiln::workers {
class resolution_table;
}

namespace kiln::actors {

struct build_graph_options {
  actors::peers peers;  // worker
  store::cache_keys* keys = nullptr;
  store::ref_store* step_history = nullptr;  // may be null
  std::shared_ptr<job_pool> io = nullptr;
  std::shared_ptr<const exporters::import_table> imports = nullptr;   // null: no imports
  std::shared_ptr<const workers::resolution_table> builds = nullptr;  // what sources lead to; null: forgotten
  std::size_t vertices_at_once = configs::graph::vertices_at_once;
};

/// Also goes on with what it does some vertices at a time.
using build_graph_impl =
    build_graph_actor::extend<caf::reacts_to<load_atom>, caf::reacts_to<release_atom, std::uint64_t>>;

build_graph_impl::behavior_type build_graph(build_graph_impl::stateful_pointer<actor_state> self,
                                            build_graph_options options);

}  // namespace kiln::actors
