// Limits and times of the data plane between nodes: units in the names, ranges in the comments.
#pragma once

#include <chrono>
#include <cstddef>

#include "configs/gateway.hpp"

namespace kiln::configs::peers {

/// A session's message in its frame.
inline constexpr int message_bytes_max = gateway::message_bytes_max + (64 << 10);
/// A peer that sends nothing for so long while something is expected of it is given up. 1 s – 10 min.
inline constexpr std::chrono::milliseconds idle_timeout{30'000};
/// Connections are probed while calls are under way, so that a frozen or vanished process is noticed. 1 s – 1
/// min.
inline constexpr std::chrono::milliseconds keepalive_time{5'000};
inline constexpr std::chrono::milliseconds keepalive_timeout{5'000};
/// How soon, at first and at most, a connection is tried again.
inline constexpr std::chrono::milliseconds reconnect_first{100};
inline constexpr std::chrono::milliseconds reconnect_max{2'000};
/// To connect and shake hands, also on a machine that is busy. 1 s – 1 min.
inline constexpr std::chrono::milliseconds connect_timeout{10'000};
/// Attempts that moved nothing, until a blob or a description is given up. 1 – 100.
inline constexpr int attempts_max = 5;
/// A node that this one has not seen yet, and of which another one told, may take so long to come. 0 s – 1
/// min.
inline constexpr std::chrono::milliseconds join_time{5'000};
/// Nodes that have gone, of which that is remembered.
inline constexpr std::size_t left_nodes_max = 1'024;
/// Pause after the first such attempt; doubles.
inline constexpr std::chrono::milliseconds retry_pause{50};
/// Messages of a blob read ahead of the disk. 1 – 64.
inline constexpr std::size_t read_ahead_messages = 8;
/// Layers of one ref that a peer may tell of.
inline constexpr int layers_max = 10'000;
/// And of one blob or layer: names, annotations, addresses.
inline constexpr std::size_t text_bytes_max = 4'096;
inline constexpr std::size_t description_bytes_max = 64 << 10;
inline constexpr int annotations_max = 1'000;
inline constexpr int urls_max = 100;
/// Refs of peers whose records here are remembered.
inline constexpr std::size_t remembered_refs_max = 20'000;

/// Threads that read blobs for peers, and that describe refs or bring blobs. 1 – 32.
inline constexpr std::size_t read_threads = 4;
inline constexpr std::size_t describe_threads = 4;
/// Calls to sessions relayed at a time. 16 – 4096.
inline constexpr std::size_t session_calls_max = 512;
/// Threads of these that one node may have; a stream takes two.
inline constexpr std::size_t session_threads_of_node_max = session_calls_max / 2;
/// Refs that one node may have described, or blobs of them brought, at a time; most of them wait for a
/// thread.
inline constexpr std::size_t describe_calls_of_node_max = 1'024;
/// How long another node may wait for a session to connect, and for the answer to one call.
inline constexpr std::chrono::milliseconds session_wait_max{30'000};
inline constexpr std::chrono::milliseconds session_call_time_max{600'000};
/// Headers of one such call.
inline constexpr int session_headers_max = 64;
/// Calls of one connection at a time.
inline constexpr int streams_max = 1'024;
/// On top of a call's own time, for the way.
inline constexpr std::chrono::milliseconds session_grace{5'000};

}  // namespace kiln::configs::peers
