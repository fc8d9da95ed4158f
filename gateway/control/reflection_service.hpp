// Server reflection (v1 and v1alpha) from the descriptors compiled into the daemon: what grpcurl asks.
#pragma once

#include <string>
#include <vector>

#include "reflection.grpc.pb.h"
#include "reflection_v1alpha.grpc.pb.h"

namespace kiln::gateway {

namespace reflection = grpc::reflection::v1;

/// The answer to one question. Pure; `services` are the full names the server has.
reflection::ServerReflectionResponse reflect(const reflection::ServerReflectionRequest& request,
                                             const std::vector<std::string>& services);

using reflection_reactor =
    grpc::ServerBidiReactor<reflection::ServerReflectionRequest, reflection::ServerReflectionResponse>;

class reflection_service final : public reflection::ServerReflection::CallbackService {
 public:
  explicit reflection_service(std::vector<std::string> services) : services_(std::move(services)) {}
  reflection_reactor* ServerReflectionInfo(grpc::CallbackServerContext*) override;

 private:
  std::vector<std::string> services_;
};

class reflection_alpha_service final : public grpc::reflection::v1alpha::ServerReflection::CallbackService {
 public:
  explicit reflection_alpha_service(std::vector<std::string> services) : services_(std::move(services)) {}
  reflection_reactor* ServerReflectionInfo(grpc::CallbackServerContext*) override;

 private:
  std::vector<std::string> services_;
};

}  // namespace kiln::gateway
