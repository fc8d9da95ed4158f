// For tests: tells which handler of which actor keeps a scheduler thread for too long.
//
// With KILN_HANDLER_LIMIT_MS set, actors run on a scheduler that times each message. What counts is the time
// a handler computed and the time it was blocked, not that in which it could have gone on and another thread
// had the core. Where more threads want to run than there are cores, whoever holds a lock may be without one,
// and others wait for it: then being blocked counts only when the disk was read. So a busy machine makes no
// handler slow. Without the variable CAF's own scheduler runs, as always.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include <caf/all.hpp>

namespace kiln::actors {

/// How a thread has spent its time until now, in nanoseconds.
struct thread_times {
  std::int64_t wall = 0;
  std::int64_t cpu = 0;
  std::int64_t queued = 0;  // it could have run, but had no core
  std::int64_t disk = 0;    // how often it waited for a page or a block
  /// Of the calling thread.
  static thread_times now();
  /// Waiting for something: a disk, a lock, another thread.
  std::int64_t blocked() const { return wall - cpu - queued; }
  thread_times operator-(const thread_times& before) const {
    return {wall - before.wall, cpu - before.cpu, queued - before.queued, disk - before.disk};
  }
};

/// Whether more threads than there are cores want to run now, of whatever process.
bool machine_is_crowded();

/// How long a handler may take; nothing when nobody watches.
std::optional<std::chrono::nanoseconds> handler_limit();

/// To be called for each actor system before it is made. Does nothing unless KILN_HANDLER_LIMIT_MS is set:
/// then whatever takes longer is told on the standard error, one line that begins with "slow handler: ".
void watch_handlers(caf::actor_system_config& config);

/// As watch_handlers(), whatever the environment says; `tell` gets each line, on a scheduler thread.
void watch_handlers(caf::actor_system_config& config, std::chrono::nanoseconds limit,
                    void (*tell)(const std::string& line), bool (*crowded)() = machine_is_crowded);

}  // namespace kiln::actors
