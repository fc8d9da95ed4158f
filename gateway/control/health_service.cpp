#include "gateway/control/health_service.hpp"

#include "gateway/transport/reactors.hpp"

namespace kiln::gateway {

namespace health = grpc::health::v1;

health_service::health_service(std::set<std::string> service_names) : names_(std::move(service_names)) {}

grpc::ServerUnaryReactor* health_service::Check(grpc::CallbackServerContext* context,
                                                const health::HealthCheckRequest* request,
                                                health::HealthCheckResponse* response) {
  auto* reactor = context->DefaultReactor();
  if (!known(request->service())) {
    reactor->Finish({grpc::StatusCode::NOT_FOUND, "unknown service"});
    return reactor;
  }
  response->set_status(health::HealthCheckResponse::SERVING);
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerWriteReactor<health::HealthCheckResponse>* health_service::Watch(
    grpc::CallbackServerContext*, const health::HealthCheckRequest* request) {
  auto call = stream_call<health::HealthCheckResponse>::make("Health/Watch");
  health::HealthCheckResponse state;
  state.set_status(known(request->service()) ? health::HealthCheckResponse::SERVING
                                             : health::HealthCheckResponse::SERVICE_UNKNOWN);
  auto* reactor = call.get();
  call->send(std::move(state));  // and stays open: nothing changes until the server ends the call
  return reactor;
}

}  // namespace kiln::gateway
