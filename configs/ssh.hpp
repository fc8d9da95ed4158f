// Bounds of forwarding SSH agents.
#pragma once

#include <cstddef>

namespace kiln::configs {

/// Connections to a forwarded agent at a time, of one mount, and those that may wait for their turn. 1 – 512.
inline constexpr std::size_t ssh_connections_max = 64;
inline constexpr int ssh_backlog = 128;

}  // namespace kiln::configs
