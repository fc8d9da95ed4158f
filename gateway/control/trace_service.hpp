// OpenTelemetry's TraceService. Without a collector to forward to, clients are told so, as BuildKit does;
// they try it with every build, so it is not logged.
#pragma once

#include <grpcpp/support/server_callback.h>

#include "otlp.grpc.pb.h"

namespace kiln::gateway {

namespace otlp = opentelemetry::proto::collector::trace::v1;

class trace_service final : public otlp::TraceService::CallbackService {
 public:
  grpc::ServerUnaryReactor* Export(grpc::CallbackServerContext* context,
                                   const otlp::ExportTraceServiceRequest*,
                                   otlp::ExportTraceServiceResponse*) override {
    auto* reactor = context->DefaultReactor();
    reactor->Finish({grpc::StatusCode::UNAVAILABLE, "trace collector not configured"});
    return reactor;
  }
};

}  // namespace kiln::gateway
