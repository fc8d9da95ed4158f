// A loaded definition as the build graph takes it.
#pragma once

#include "messages/solve_types.hpp"
#include "solver/graph.hpp"

namespace kiln::actors {

graph_spec to_spec(solver::graph g, const std::string& cache_mount_namespace);

}  // namespace kiln::actors
