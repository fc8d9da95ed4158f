// kiln.v1.Cluster: a thin mailbox in front of the cluster actor.
#pragma once

#include "gateway/services.hpp"
#include "kiln_cluster.grpc.pb.h"

namespace kiln::gateway {

class cluster_service final : public v1::Cluster::CallbackService {
 public:
  explicit cluster_service(const services& s) : services_(s) {}

  grpc::ServerUnaryReactor* Nodes(grpc::CallbackServerContext*, const v1::NodesRequest*,
                                  v1::NodesResponse*) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext*, const v1::DrainRequest*,
                                  v1::DrainResponse*) override;

 private:
  const services& services_;
};

}  // namespace kiln::gateway
