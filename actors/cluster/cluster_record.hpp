// What the workers of a cluster are together, told as one. Pure.
#pragma once

#include <span>

#include "messages/cluster_types.hpp"

namespace kiln::actors {

/// The record of a node that coordinates builds: its own, with the platforms and devices of all nodes that
/// run steps. Its own platforms come first, as far as somebody runs them; without any such node it is left as
/// it is.
moby::buildkit::v1::types::WorkerRecord record_of_all(moby::buildkit::v1::types::WorkerRecord own,
                                                      std::span<const node_info> runners);

}  // namespace kiln::actors
