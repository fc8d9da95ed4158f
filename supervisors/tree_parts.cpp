#include "supervisors/tree_parts.hpp"

#include <utility>

#include "configs/containers.hpp"
#include "configs/daemon.hpp"
#include "store/ref_store.hpp"
#include "workers/sources/resolutions.hpp"

namespace kiln::supervision {

tree_pools tree_pools::make() {
  using actors::job_pool;
  return {std::make_shared<job_pool>(configs::op_threads_max),
          std::make_shared<job_pool>(configs::call_threads_max),
          std::make_shared<job_pool>(configs::io_threads_max),
          std::make_shared<job_pool>(static_cast<unsigned>(configs::containers::processes_max) *
                                     configs::containers::threads_per_process),
          std::make_shared<actors::layered_pool>(configs::frontend_threads_max)};
}

void tree_pools::close() {
  frontends.reset();
  for (auto* pool : {&processes, &ops, &calls, &io}) pool->reset();
}

tree_options wire(store::ref_store& store, session_directory* sessions,
                  std::shared_ptr<actor_registry> registry, const tree_pools& pools) {
  actors::peers peers{registry};
  auto builds = std::make_shared<workers::resolution_table>();
  auto imports = std::make_shared<exporters::import_table>();
  tree_options tree;
  tree.registry = std::move(registry);
  tree.cache_manager.store = &store;
  tree.cache_manager.peers = peers;
  tree.cache_manager.io = pools.io;
  tree.garbage_collector.peers = peers;
  tree.history.store = &store;
  tree.history.io = pools.io;
  tree.worker.store = &store;
  tree.worker.sessions = sessions;
  tree.worker.builds = builds;
  tree.worker.imports = imports;
  tree.worker.ops = pools.ops;
  tree.worker.calls = pools.calls;
  tree.worker.io = pools.io;
  tree.workers.peers = peers;
  tree.workers.io = pools.io;
  tree.containers.calls = pools.calls;
  tree.containers.io = pools.io;
  tree.containers.processes = pools.processes;
  tree.build_graph.peers = peers;
  tree.build_graph.builds = builds;
  tree.build_graph.keys = &store.keys();
  tree.build_graph.step_history = &store;
  tree.build_graph.imports = imports;
  tree.build_graph.io = pools.io;
  tree.build.peers = peers;
  tree.build.builds = builds;
  tree.build.sessions = sessions;
  tree.build.store = &store;
  tree.build.frontend_threads = pools.frontends;
  tree.build.io = pools.io;
  tree.build.calls = pools.calls;
  return tree;
}

}  // namespace kiln::supervision
