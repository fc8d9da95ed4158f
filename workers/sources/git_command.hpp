// Runs git's own program, cut off from the host: its configuration, keys, known hosts, hooks and files. What
// a URL or a repository says can only lead to http, https, ssh and git servers. Blocking; one object a
// repository and job.
#pragma once

#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "base/program.hpp"
#include "messages/job.hpp"

namespace kiln::workers {

class git_command {
 public:
  /// From where git may fetch. `daemon` is for copies between repositories of our own: files, and nothing
  /// else.
  enum class reach { network, daemon };
  reach from = reach::network;
  std::string git_dir;
  std::string work_tree;
  std::string remote;            // URL to ask; with credentials: where it answers (git.cpp)
  std::string known_hosts_file;  // empty: host keys are not checked
  std::string ssh_auth_sock;
  progress_sink* log = nullptr;  // is told what git says
  /// Settings of this run and its submodules', e.g. an authorization header. They go by the environment:
  /// arguments are for all users of the machine to see.
  std::vector<std::pair<std::string, std::string>> config;

  /// Standard output; an error carries git's standard error. Retries without --depth where the server
  /// speaks no shallow protocol, and without a bare commit where it does not hand those out.
  result<std::string> run(std::vector<std::string> arguments, std::stop_token stop) const;
  /// As run, of questions whose answers are for nobody else's eyes.
  result<std::string> ask(std::vector<std::string> arguments, std::stop_token stop) const;
  /// The same on a repository of our own that lies in a directory, which is read like one of a server's.
  git_command reading(const std::string& directory) const;

 private:
  result<std::string> run(std::vector<std::string> arguments, progress_sink* log, std::stop_token stop) const;
  result<program_outcome> run_once(const std::vector<std::string>& arguments, progress_sink* log,
                                   std::stop_token stop) const;
};

}  // namespace kiln::workers
