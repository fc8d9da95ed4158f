// What an exec step gets from a client: secrets, and its SSH agent behind a socket.
// Source: session/secrets, session/sshforward.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "messages/job.hpp"
#include "ops.pb.h"

namespace kiln::workers {

/// A secret's bytes from the first session that has it; nothing when none has. Errors: the clients'.
/// failed_precondition without any session.
result<std::optional<std::string>> find_secret(const std::string& id, const job_context& job);

/// A listening socket whose connections reach the client's SSH agent. Closed and removed with this.
class ssh_socket {
 public:
  virtual ~ssh_socket() = default;
  virtual const std::string& path() const = 0;
  /// `directory` is a fresh one, taken over. Nothing when the client forwards no such key.
  static result<std::unique_ptr<ssh_socket>> open(const pb::SSHOpt& options, const std::string& directory,
                                                  const job_context& job);
};

}  // namespace kiln::workers
