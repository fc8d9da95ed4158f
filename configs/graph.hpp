// Bounds of the directory of running vertices (actors/solve/build_graph.hpp).
#pragma once

#include <cstddef>

namespace kiln::configs::graph {

/// Vertices that are placed or released before others are answered.
inline constexpr std::size_t vertices_at_once = 200;

}  // namespace kiln::configs::graph
