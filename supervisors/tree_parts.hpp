// What the actors of a tree share, and where each of them gets it: the store, the registry and the pools live
// outside the tree, longer than any actor. The daemon, and tests that want its actors, begin with wire().
#pragma once

#include <memory>

#include "supervisors/daemon_tree.hpp"

namespace kiln::supervision {

/// Threads for what blocks (actors/job_pool.hpp says why there are several).
struct tree_pools {
  std::shared_ptr<actors::job_pool> ops, calls, io, processes;
  std::shared_ptr<actors::layered_pool> frontends;

  /// As many threads as configs/ says.
  static tree_pools make();
  /// Ends and joins all threads: after the actors, before what their jobs use.
  void close();
};

/// Options in which everything that is shared stands; sources, exporters, policies and descriptions are the
/// caller's. All must outlive the tree; `sessions` may be null.
tree_options wire(store::ref_store& store, session_directory* sessions,
                  std::shared_ptr<actor_registry> registry, const tree_pools& pools);

}  // namespace kiln::supervision
