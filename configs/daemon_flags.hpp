// kilnd's command line: buildkitd's flags over the config file.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "configs/daemon_config.hpp"

namespace kiln::configs {

struct command_line {
  daemon_config config;
  std::vector<std::string> unknown_keys;    // of the config file
  std::vector<std::string> without_effect;  // keys and flags that ask for what Kiln has not, and why not
  std::vector<std::string> outdated;        // keys and flags, with what is said instead
  std::string config_file;
  /// Set when the program is done after printing this (--help, --version).
  std::optional<std::string> print_and_exit;
};

/// Reads flags, then the config file they name, and merges: flag over file over default. Validated.
result<command_line> parse_command_line(int argc, const char* const* argv);

}  // namespace kiln::configs
