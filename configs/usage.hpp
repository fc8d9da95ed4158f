// How often the use of resources is looked at while steps and builds run. Plain constants.
#pragma once

#include <chrono>
#include <cstddef>

namespace kiln::configs {

/// Between two looks, at first; twice as long whenever there are too many. Upstream's. 1 s – 1 min.
inline constexpr std::chrono::milliseconds usage_interval{2'000};
inline constexpr std::size_t step_usage_samples = 10;   // 2–100
inline constexpr std::size_t build_usage_samples = 20;  // 2–100
/// How long the kernel may take to tell that a group has gone (hierarchies of version 1).
inline constexpr std::chrono::milliseconds oom_notice_wait{100};

}  // namespace kiln::configs
