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

/// Where connections come in, and with which TLS. It stays while servers come and go: those who connect
/// meanwhile wait for the next one. Thread-safe.
class listeners {
 public:
  /// Listens. On failure nothing is left behind.
  static result<std::shared_ptr<listeners>> open(const server_options& options);

  virtual ~listeners() = default;
  /// With real ports.
  virtual std::vector<std::string> addresses() const = 0;
  /// Servers that start from now on accept nothing. Idempotent.
  virtual void close() = 0;
};

class server {
 public:
  /// Serves on listeners, which may have had a server before; one at a time. `s` is copied; what it points to
  /// must outlive the server.
  static result<std::unique_ptr<server>> start(std::shared_ptr<listeners> on, const services& s);
  /// Serves on listeners of its own.
  static result<std::unique_ptr<server>> start(const server_options& options, const services& s);

  virtual ~server() = default;
  /// Where it listens, with real ports.
  virtual std::vector<std::string> addresses() const = 0;
  /// Closes the listeners and takes no more builds; waits up to `grace` for running builds. True when all
  /// ended. Connected clients are served on meanwhile, since running builds need them.
  virtual bool drain(std::chrono::milliseconds grace) = 0;
  /// Cancels whatever still runs, ends every call and the server. Idempotent. Afterwards the actors may go.
  virtual void shutdown() = 0;
};

}  // namespace kiln::gateway
