// Defaults and bounds of placing work on the nodes of a cluster (actors/cluster/step_scheduler.hpp).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace kiln::configs::placing {

/// What a link between nodes is taken to carry; only ratios to running times matter.
constexpr std::int64_t bytes_per_second = 100 << 20;
/// A step waits this long for a node that has its inputs before it is worth moving at all.
constexpr std::chrono::milliseconds patience{100};
/// How long a step is taken to run before any has; later ones move an average of that weight. A step is not
/// moved when that takes more than this many times as long as steps run.
constexpr std::chrono::milliseconds typical_at_first{1'000};
constexpr int typical_weight = 16;
constexpr int moving_share = 2;
/// An input whose size nobody knows (a lazy image), and a cache mount that lies on another node.
constexpr std::int64_t unknown_input_bytes = 32 << 20;
constexpr std::int64_t cache_mount_bytes = 64 << 20;

/// Steps and builds wait so long for a node that runs steps to join when there is none; 0 s – 10 min.
constexpr std::chrono::milliseconds join_time{30'000};
/// When nodes run steps but none may run this one: so long after one has come or gone, others may follow.
constexpr std::chrono::milliseconds settle_time{5'000};

constexpr std::chrono::milliseconds seek_interval{100};  // until the cluster actor is there

constexpr std::size_t places_max = 100'000;  // refs whose nodes are remembered
constexpr int attempts_max = 8;              // nodes that may die or drain under one step
constexpr int rederived_max = 16;            // lost inputs that one step asks for again

}  // namespace kiln::configs::placing
