// Bounds of what one node may say to another (node/basp_gate.hpp), besides those of configs/cluster.hpp.
#pragma once

#include <cstddef>

namespace kiln::configs::cluster {

constexpr std::size_t hello_bytes_max = 2u << 20;          // of a hello, an answer to one, a worker's record
constexpr std::size_t small_message_bytes_max = 1u << 20;  // of a beat, and of what is about one thing only
constexpr std::size_t status_bytes_max = 4u << 20;         // of the progress of a step
constexpr std::size_t message_elements_max = 262'144;      // of all lists of one message
constexpr int message_depth_max = 4;                       // of errors in errors
constexpr std::size_t peer_actors_max = 262'144;  // that another node tells of and that have not ended
constexpr std::size_t held_bytes_max = 512u
                                       << 20;  // of messages that have not come whole, of all connections
constexpr std::size_t ended_actors_kept_max = 65'536;  // of ours, that another node may still write to

}  // namespace kiln::configs::cluster
