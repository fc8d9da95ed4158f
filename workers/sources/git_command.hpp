// Runs git's own program, cut off from the host's configuration. Blocking; one object a repository and job.
#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "workers/sources/program.hpp"

namespace kiln::workers {

class git_command {
 public:
  std::string git_dir;
  std::string work_tree;
  std::string known_hosts_file;  // empty: host keys are not checked
  std::string ssh_auth_sock;
  std::vector<std::string> config;  // "-c" values, e.g. an authorization header

  /// Standard output; an error carries git's standard error. Retries without --depth where the server
  /// speaks no shallow protocol, and without a bare commit where it does not hand those out.
  result<std::string> run(std::vector<std::string> arguments, std::stop_token stop) const;

 private:
  result<program_outcome> run_once(const std::vector<std::string>& arguments, std::stop_token stop) const;
};

}  // namespace kiln::workers
