// The gRPC server's life: addresses, TLS, limits, which services, draining and shutdown.
// Start and shut down from one thread.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "configs/gateway.hpp"
#include "gateway/transport/listener.hpp"

namespace kiln::gateway {

struct services;

struct tls_files {
  std::string cert;  // PEM paths
  std::string key;
  std::string ca;  // clients must show a certificate of this authority; empty: they need none
};

struct server_options {
  std::vector<std::string> addresses;  // unix://, tcp://, fd://
  socket_owner owner;                  // of unix sockets
  tls_files tls;                       // for tcp and inherited tcp sockets; empty: none
};

class server {
 public:
  /// Listens, then serves. On failure nothing is left behind. `s` is copied; what it points to must
  /// outlive the server.
  static result<std::unique_ptr<server>> start(const server_options& options, const services& s);

  virtual ~server() = default;
  /// Where it listens, with real ports.
  virtual std::vector<std::string> addresses() const = 0;
  /// Stops accepting connections and builds; waits up to `grace` for running builds. True when all ended.
  /// Connected clients are served on meanwhile, since running builds need them.
  virtual bool drain(std::chrono::milliseconds grace) = 0;
  /// Cancels whatever still runs, ends every call and the server. Idempotent. Afterwards the actors may go.
  virtual void shutdown() = 0;
};

}  // namespace kiln::gateway
