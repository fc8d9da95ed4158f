// Runs a helper program (git, gpg, ssh-keygen, what signs caches) to its end. Blocking.
#pragma once

#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace kiln {

struct program_call {
  std::vector<std::string> argv;         // the first is looked for on PATH
  std::vector<std::string> environment;  // "NAME=value"; nothing is inherited
  std::string directory = "/";
  std::string input = "/dev/null";  // a file's path
  /// Is told what the program writes (1: its output, 2: its errors) while it runs; may be empty.
  std::function<void(int stream, std::string_view)> on_output = nullptr;
};

struct program_outcome {
  int exit_code = 0;  // 128 + the signal's number of one that was killed
  std::string out;    // each at most 64 MiB; the rest is dropped
  std::string err;
};

/// All variables of this process, for a program that is to inherit them.
std::vector<std::string> own_environment();

/// Where the program lies: what PATH has of that name and can be run, or the path that `name` is.
std::optional<std::string> find_program(const std::string& name);

/// Kills the program, and what it started, when asked to stop. Errors: failed_precondition if the program is
/// not installed; unavailable if it cannot be started.
result<program_outcome> run_program(program_call call, std::stop_token stop);

}  // namespace kiln
