// How much work may wait for a thread of a service that answers calls; more is refused. 64 – 65,536.
#pragma once

#include <cstddef>

namespace kiln::configs {

inline constexpr std::size_t waiting_calls_max = 4'096;

}  // namespace kiln::configs
