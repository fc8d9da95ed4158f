// What git needs to get at a repository's remote and its submodules': credentials for the remote, known
// hosts, the client's SSH agent. Blocking.
#pragma once

#include <memory>
#include <string>

#include "base/unique_fd.hpp"
#include "distribution/transport.hpp"
#include "store/files/scratch_directory.hpp"
#include "workers/ops/client_secrets.hpp"
#include "workers/sources/git_command.hpp"
#include "workers/sources/git_reference.hpp"

namespace kiln::workers {

/// A directory that goes away with its holder, and with the next start if the daemon is killed.
struct temporary_directory {
  std::string path;
  temporary_directory() = default;
  temporary_directory(const temporary_directory&) = delete;
  temporary_directory& operator=(const temporary_directory&) = delete;
  ~temporary_directory();
};

/// Git commands use it as long as this lives.
class git_access {
 public:
  git_access(const store::scratch_directory& scratch, distribution::transport& transport)
      : scratch_(scratch), transport_(transport) {}

  /// Lets `git` at the remote of `r`; where its content comes from a bundle, only at submodules.
  status give(git_command& git, const git_reference& r, const job_context& job);

 private:
  status give_ssh(git_command& git, const git_reference& r, const job_context& job);
  status sign_in_at(git_command& git, const git_reference& r, const job_context& job);

  const store::scratch_directory& scratch_;
  distribution::transport& transport_;
  temporary_directory known_hosts_;
  std::unique_ptr<ssh_socket> agent_;
  unique_fd agent_directory_;
};

}  // namespace kiln::workers
