// LLBBridge for one build over one connection: how a frontend image talks to its build (its standard input
// and output are the other end of the socket).
#pragma once

#include <functional>
#include <memory>

#include "base/result.hpp"
#include "messages/actor_containers.hpp"

namespace kiln::gateway {

/// A server for a single connection; destroying it ends every call on it.
class connection_server {
 public:
  virtual ~connection_server() = default;
};

/// Serves LLBBridge of `build` (and grpc health) on a connected stream socket, which it owns from now on.
/// Calls need no header. Source: BuildKit frontend/gateway/gateway.go, serveLLBBridgeForwarder.
result<std::unique_ptr<connection_server>> serve_on_fd(
    int fd, caf::actor_system& system, build_actor build,
    std::function<containers_actor()> containers = nullptr);

}  // namespace kiln::gateway
