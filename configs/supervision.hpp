// How patient supervisors are (supervisors/).
#pragma once

#include <chrono>
#include <cstddef>

namespace kiln::configs::supervision {

/// More restarts of a group's children than this, within this time, and the group gives up: what a fault in
/// one request may cause before it counts as a fault of the daemon.
inline constexpr int leaf_intensity = 5;
inline constexpr std::chrono::milliseconds leaf_period{10'000};
/// The same of root, over the groups. The levels multiply, so this stays small.
inline constexpr int root_intensity = 2;
inline constexpr std::chrono::milliseconds root_period{60'000};
/// How often a start looks whether root has given up.
inline constexpr std::chrono::milliseconds start_look_interval{100};
/// What a killed child gets before its supervisor goes on without it: a handler that never returns cannot be
/// interrupted, and must not hold the rest of the tree.
inline constexpr std::chrono::milliseconds kill_grace{1'000};
/// Dead children that are remembered, to tell their late exits from the parent's.
inline constexpr std::size_t remembered_dead_max = 64;

}  // namespace kiln::configs::supervision
