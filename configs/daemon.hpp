// Limits and times of the daemon process.
#pragma once

#include <chrono>

namespace kiln::configs {

/// How long running builds may go on after SIGTERM before they are cancelled; a node of a cluster waits for
/// its drainGrace instead.
inline constexpr std::chrono::nanoseconds stop_grace = std::chrono::minutes{10};
/// How long stopping may take once nobody is waited for any more: then the process ends, whatever hangs. 5 s
/// – 10 min.
inline constexpr std::chrono::nanoseconds stop_deadline = std::chrono::seconds{30};
/// How often a daemon that waits for them looks for a second signal.
inline constexpr std::chrono::milliseconds stop_poll_interval{100};

/// How often the daemon looks whether it is idle.
inline constexpr std::chrono::milliseconds idle_check_interval{1'000};
/// CPU time between two looks below which it is.
inline constexpr std::chrono::milliseconds idle_cpu_time{10};
/// CPU time after which memory is worth giving back again.
inline constexpr std::chrono::milliseconds idle_work_before{20};

/// Threads of the actor scheduler: actors only pass messages, so few are enough. Range 1–16.
inline constexpr unsigned scheduler_threads = 2;

/// Messages an actor handles before others have their turn: one with a full mailbox keeps nobody waiting.
/// 1–10,000.
inline constexpr unsigned scheduler_throughput = 100;

/// Threads for blocking work, made as needed: steps run at once on one worker.
inline constexpr unsigned op_threads_max = 128;
/// Short blocking work on this machine's disk: the database, definitions, records. Never waits for anybody
/// else.
inline constexpr unsigned io_threads_max = 16;
/// Blocking work that waits for others: clients, registries, servers, other nodes.
inline constexpr unsigned call_threads_max = 128;
/// Frontends run at once, at each depth of frontends that call frontends.
inline constexpr unsigned frontend_threads_max = 64;

}  // namespace kiln::configs
