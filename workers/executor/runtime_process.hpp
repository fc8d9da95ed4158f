// One call of the OCI runtime that stays in the foreground: streams, terminal, signals, the end.
// Everything happens on the calling thread but process_control, which other threads use.
#pragma once

#include <chrono>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include <sys/types.h>

#include "base/result.hpp"
#include "workers/executor/container.hpp"

namespace kiln::workers {

class runtime_process {
 public:
  struct options {
    std::vector<std::string> argv;
    bool tty = false;
    /// With tty: a directory for the socket over which the runtime hands us its terminal. Empty: the runtime
    /// is given ours and follows its size, as runc does in the foreground.
    std::string console_directory;
    bool hide_unified_cgroup = false;
    std::string pid_file;  // where the runtime writes the container process' pid
    /// Called from time to time while it runs; how long until the next time. May be empty.
    std::function<std::chrono::milliseconds()> looks_on;
  };

  /// Runs to the end; the exit code (128 + signal when killed). A stop kills the container's process
  /// and, if the runtime does not end for that, the runtime; the code is then meaningless.
  /// unavailable when the runtime cannot be started at all.
  static result<int> run(const options& what, const process_io& io, std::stop_token stop);

  /// On each way out of what runs a process, also when none was started: whoever waits for it is let go.
  class ending {
   public:
    explicit ending(const process_io& io) : control_(io.control) {}
    ending(const ending&) = delete;
    ending& operator=(const ending&) = delete;
    ~ending() { end(control_); }

   private:
    process_control* control_;
  };

 private:
  static void end(process_control* control);
};

/// Runs a runtime command that ends by itself, e.g. {"crun", …, "delete"}; its exit code.
result<int> run_command(const std::vector<std::string>& argv, bool hide_unified_cgroup);

}  // namespace kiln::workers
