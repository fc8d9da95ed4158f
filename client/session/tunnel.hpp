// The session: a gRPC server whose one connection travels inside a Control.Session stream.
// Threads: two pump bytes between the stream and a socket pair; gRPC's own pool runs the handlers.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "client/fd.hpp"
#include "client/session/service.hpp"

namespace kiln::client {

class session_tunnel {
 public:
  explicit session_tunnel(std::string shared_key = {});
  ~session_tunnel();
  session_tunnel(const session_tunnel&) = delete;
  session_tunnel& operator=(const session_tunnel&) = delete;

  const std::string& id() const { return id_; }
  /// Before start only.
  void add(std::unique_ptr<session_service> service);
  /// Opens the stream and serves on it.
  status start(const std::shared_ptr<grpc::Channel>& channel);
  /// Ends the session: closes the inner connection, half-closes the stream and reads it to its end.
  /// Idempotent.
  void stop();
  /// Every method the session announces.
  std::vector<std::string> methods() const;

 private:
  struct connection;

  std::string id_;
  std::string shared_key_;
  std::vector<std::unique_ptr<session_service>> services_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<connection> connection_;
};

/// Builds the server that offers these services (and health) without any listening port.
std::unique_ptr<grpc::Server> make_session_server(
    const std::vector<std::unique_ptr<session_service>>& services);
/// Serves a connected socket.
void serve_connection(grpc::Server& server, unique_fd socket);

}  // namespace kiln::client
