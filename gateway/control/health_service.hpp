// grpc.health.v1.Health: every service this server has is serving for as long as the server lives.
#pragma once

#include <set>
#include <string>

#include "health.grpc.pb.h"

namespace kiln::gateway {

class health_service final : public grpc::health::v1::Health::CallbackService {
 public:
  /// Besides "" (the server itself), the full names of its services.
  explicit health_service(std::set<std::string> service_names);

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext*, const grpc::health::v1::HealthCheckRequest*,
                                  grpc::health::v1::HealthCheckResponse*) override;
  grpc::ServerWriteReactor<grpc::health::v1::HealthCheckResponse>* Watch(
      grpc::CallbackServerContext*, const grpc::health::v1::HealthCheckRequest*) override;

 private:
  bool known(const std::string& name) const { return name.empty() || names_.contains(name); }
  std::set<std::string> names_;
};

}  // namespace kiln::gateway
