// Finds sessions of this node and, as "node!session", those of others through their peer services.
// Thread-safe.
#pragma once

#include <memory>

#include "gateway/peer/peer_client.hpp"
#include "messages/session.hpp"

namespace kiln::gateway {

class remote_sessions final : public session_directory {
 public:
  /// `local` must outlive it.
  remote_sessions(session_directory& local, std::shared_ptr<peer_directory> peers)
      : local_(local), peers_(std::move(peers)) {}

  /// As the node's own directory would answer; unavailable, naming the node, when it cannot be asked. The
  /// session's id is the one it was asked for by.
  result<std::shared_ptr<session_caller>> find(std::string_view id, std::chrono::milliseconds wait,
                                               std::stop_token stop) override;

 private:
  session_directory& local_;
  std::shared_ptr<peer_directory> peers_;
};

}  // namespace kiln::gateway
