// Child processes: connection helpers, credential helpers, the embedded daemon.
// The client blocks its own signals for a dedicated thread; children start with a clean signal mask.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "base/result.hpp"
#include "client/fd.hpp"

namespace kiln::client {

struct child_options {
  std::vector<std::string> argv;  // argv[0] is looked up in PATH
  int input = -1;                 // becomes descriptor 0; -1: inherited
  int output = -1;
  int errors = -1;
  /// Own session, so that the terminal's Ctrl-C does not reach it.
  bool own_session = false;
  /// Signal sent to it when the starting thread ends; 0 for none.
  int death_signal = 0;
  std::vector<std::string> environment;  // "NAME=value" added to ours
};

/// A started child. Destroying it leaves the process alone.
class child_process {
 public:
  static result<child_process> start(const child_options& options);

  pid_t pid() const noexcept { return pid_; }
  bool signal(int number) const;
  /// Exit status as waitpid gives it; nothing when it has not ended in time.
  std::optional<int> wait(std::optional<std::chrono::milliseconds> timeout);

 private:
  pid_t pid_ = -1;
  unique_fd pidfd_;
  std::optional<int> ended_;
};

/// The program's path: as is with a slash, else found in PATH. not_found "<name>: executable file not found
/// in $PATH".
result<std::string> find_program(const std::string& name);

struct captured_run {
  int exit_code = 0;
  std::string output;
  std::string errors;
};

/// Runs a program with `input` on stdin to its end; at most `limit` bytes of output. deadline_exceeded when
/// it takes longer than `timeout` (it is killed then).
result<captured_run> run_captured(const std::vector<std::string>& argv, std::string_view input,
                                  std::size_t limit, std::chrono::milliseconds timeout);

}  // namespace kiln::client
