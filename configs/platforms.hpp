// How the daemon finds out which platforms' programs run here. Plain constants.
#pragma once

#include <chrono>

namespace kiln::configs {

/// What was found is asked again after this long, when somebody lists the workers. Upstream's default.
inline constexpr std::chrono::nanoseconds platforms_max_age = std::chrono::seconds{20};
inline constexpr std::chrono::nanoseconds platforms_max_age_least = std::chrono::hours{-1};  // for ever
/// How long a program that does nothing may take, be it emulated. 1 s – 1 min.
inline constexpr std::chrono::milliseconds platform_probe_time{5'000};
/// A program that was just written may be held open by another thread's child for a moment: how often, and
/// after which pause, it is started again.
inline constexpr int platform_probe_starts = 50;
inline constexpr std::chrono::milliseconds platform_probe_pause{2};

}  // namespace kiln::configs
