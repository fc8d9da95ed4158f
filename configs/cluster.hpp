// Defaults and bounds of the cluster: units in the types, ranges in the comments or beside them.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace kiln::configs::cluster {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

/// Time between two heartbeats.
constexpr nanoseconds heartbeat_interval = milliseconds{500};
constexpr nanoseconds heartbeat_interval_min = milliseconds{10};
constexpr nanoseconds heartbeat_interval_max = std::chrono::minutes{1};
/// A node not heard of for this long is dead, whatever its connection looks like.
constexpr nanoseconds dead_after = std::chrono::seconds{3};
constexpr nanoseconds dead_after_min = milliseconds{30};
constexpr nanoseconds dead_after_max = std::chrono::minutes{10};
constexpr int heartbeats_before_dead_min = 3;
/// How long other nodes may take to say what their cache knows; who is slower is asked again when it is quick
/// again.
constexpr nanoseconds peer_answer_time = milliseconds{250};
constexpr nanoseconds peer_answer_time_min = milliseconds{1};
constexpr nanoseconds peer_answer_time_max = std::chrono::seconds{10};
/// How long a drained node waits for what others still have on it.
constexpr nanoseconds drain_grace = std::chrono::minutes{10};
constexpr nanoseconds drain_grace_min = milliseconds{0};
constexpr nanoseconds drain_grace_max = std::chrono::hours{24};

/// A connection on which nothing is acknowledged for `dead_after` times this is ended by the kernel. 1 – 10.
constexpr int connection_dead_factor = 2;
/// Reaching a node: TCP, TLS and its first word. 100 ms – 30 s.
constexpr milliseconds dial_time{3'000};
/// Until an address that did not answer is dialled again; doubles up to the second. 100 ms – 10 min.
constexpr milliseconds redial{500};
constexpr milliseconds redial_max{5'000};
/// Until the names of seeds are looked up again, and while they do not resolve. 1 s – 1 h.
constexpr milliseconds resolve_interval{10'000};
constexpr milliseconds resolve_retry{2'000};
/// Dials and look-ups at a time. 1 – 64.
constexpr unsigned dial_threads = 8;
/// A node that is down or was refused, and an address that never answered, are forgotten after this. 1 min –
/// 7 days.
constexpr std::chrono::minutes forget_after{60};
constexpr std::chrono::minutes forget_refused_after{2};

// What one node takes from another.
constexpr std::size_t peers_max = 256;             // links at a time
constexpr std::size_t neighbours_max = 256;        // of one message
constexpr std::size_t addresses_max = 512;         // to dial
constexpr std::size_t refusals_max = 64;           // shown
constexpr std::size_t name_bytes_max = 64;         // of a node
constexpr std::size_t address_bytes_max = 280;     // host:port
constexpr std::size_t record_bytes_max = 1 << 20;  // of a worker's description
constexpr std::int32_t slots_max = 4096;
constexpr std::size_t message_bytes_max = 64u << 20;  // of one message between nodes; 1 MiB – 1 GiB
constexpr std::size_t reason_bytes_max = 512;
constexpr std::size_t jobs_of_node_max =
    16'384;  // what one other node has asked a worker for and not yet got
constexpr std::size_t facts_waiting_max =
    256;  // messages of what to remember; what comes beyond is forgotten
constexpr std::size_t inbound_clients_max = 65'536;  // actors of one other node with work or pins here

// Questions to the caches of other nodes.
constexpr std::size_t question_links_max = 4'096;
constexpr std::size_t question_roots_max = 4'096;
constexpr std::size_t answer_links_max = 16'384;
constexpr std::size_t answer_results_max = 16'384;
constexpr std::size_t id_bytes_max = 512;           // of a key, result, digest or selector
constexpr std::size_t questions_at_once_max = 256;  // of other nodes; more are refused

/// Certificates made by `kilnctl cluster certs`.
constexpr std::chrono::hours authority_validity{24 * 3'650};
constexpr std::chrono::hours certificate_validity{24 * 825};

}  // namespace kiln::configs::cluster
