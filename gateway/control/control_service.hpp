// The Control service: each call is a thin reactor in front of an actor.
#pragma once

#include <memory>

#include "control.grpc.pb.h"
#include "gateway/transport/call_gate.hpp"
#include "gateway/services.hpp"
#include "gateway/session/tunnel_pump.hpp"

namespace kiln::gateway {

class control_service final : public ctl::Control::CallbackService {
 public:
  /// All must outlive the server the service is registered with.
  control_service(const services& s, tunnel_pump& pump, call_gate& solves);

  grpc::ServerUnaryReactor* Info(grpc::CallbackServerContext*, const ctl::InfoRequest*,
                                 ctl::InfoResponse*) override;
  grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext*, const ctl::ListWorkersRequest*,
                                        ctl::ListWorkersResponse*) override;
  grpc::ServerUnaryReactor* Solve(grpc::CallbackServerContext*, const ctl::SolveRequest*,
                                  ctl::SolveResponse*) override;
  grpc::ServerWriteReactor<ctl::StatusResponse>* Status(grpc::CallbackServerContext*,
                                                        const ctl::StatusRequest*) override;
  session_reactor* Session(grpc::CallbackServerContext*) override;
  grpc::ServerUnaryReactor* DiskUsage(grpc::CallbackServerContext*, const ctl::DiskUsageRequest*,
                                      ctl::DiskUsageResponse*) override;
  grpc::ServerWriteReactor<ctl::UsageRecord>* Prune(grpc::CallbackServerContext*,
                                                    const ctl::PruneRequest*) override;
  grpc::ServerWriteReactor<ctl::BuildHistoryEvent>* ListenBuildHistory(
      grpc::CallbackServerContext*, const ctl::BuildHistoryRequest*) override;
  grpc::ServerUnaryReactor* UpdateBuildHistory(grpc::CallbackServerContext*,
                                               const ctl::UpdateBuildHistoryRequest*,
                                               ctl::UpdateBuildHistoryResponse*) override;

 private:
  const services& services_;
  tunnel_pump& pump_;
  call_gate& solves_;
};

}  // namespace kiln::gateway
