// Runs frontend images: a container whose standard input and output are a gRPC connection to the build.
// Source: BuildKit frontend/gateway/gateway.go, Solve and serveLLBBridgeForwarder.
#pragma once

#include <functional>
#include <memory>

#include <caf/all.hpp>

#include "frontends/gateway/gateway_frontend.hpp"
#include "messages/actor_containers.hpp"
#include "workers/client_container.hpp"

namespace kiln::gateway {

struct frontend_runner_options {
  caf::actor_system* system = nullptr;
  /// Makes a container of record ids, as for containers that clients ask for.
  std::function<result<std::shared_ptr<workers::client_container>>(const gw::NewContainerRequest&,
                                                                   const container_inputs&)>
      make_container;
  /// For the containers that the frontend itself asks for.
  std::function<containers_actor()> containers;
};

/// Blocks for as long as the frontend runs; a stop of the build ends it.
frontends::frontend_runner make_frontend_runner(frontend_runner_options options);

}  // namespace kiln::gateway
