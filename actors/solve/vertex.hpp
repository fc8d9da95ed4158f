// One op of running builds. Owns its keys, its result and its progress so far.
//
//   idle → keying → probing → (a hit is loaded) probing, with its result
//                           → (miss) collecting → claiming → (mine) running → saving → done
//                                                          → (another's) following → probing, with its result
// and failed from anywhere (vertex_phase.hpp has every move). May be asked for keys and results of its
// outputs; works only as far as asked. When an input or the worker dies it fails with that error; when the
// owner of equal work dies it claims that work itself; when a result is lost with its node, whoever needs it
// says so and it is found or made again; when nobody holds it any more, build_graph ends it and the worker
// cancels its jobs. Every waiting request is answered, whatever ends the actor.
// Source: docs/architecture.md ("Solving"), solver/edge.go.
#pragma once

#include <memory>
#include <vector>

#include "actors/job_pool.hpp"
#include "actors/peers.hpp"
#include "actors/solve/shared_limits.hpp"
#include "exporters/cache/import_table.hpp"
#include "messages/actor_cluster.hpp"
#include "messages/actor_interfaces.hpp"
#include "store/database/cache_keys.hpp"

namespace kiln::store {
class ref_store;
}

namespace kiln::actors {

struct vertex_options {
  vertex_spec spec;
  std::vector<vertex_actor> inputs;  // as spec.inputs
  build_graph_actor graph;
  actors::peers peers;  // worker, cluster (null: there are no other nodes)
  store::cache_keys* keys = nullptr;
  store::ref_store* step_history = nullptr;  // remembers steps between builds; null: no reasons
  std::shared_ptr<job_pool> io;
  std::shared_ptr<const exporters::import_table> import_table;  // null: no imports
  std::vector<std::string> imports;                             // ids
  std::shared_ptr<const std::vector<pb::SourceInfo>> sources;   // of the definition; null: none
  std::shared_ptr<const shared_limits> limits = nullptr;        // null: those of its own definition
};

vertex_actor spawn_vertex(caf::local_actor* parent, vertex_options options);

}  // namespace kiln::actors
