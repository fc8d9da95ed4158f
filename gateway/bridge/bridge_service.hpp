// LLBBridge: what frontends and gateway clients ask of their build. On the main listener the build is named
// by the header `buildkit-controlapi-buildid`; over a frontend's own connection it is fixed.
#pragma once

#include "gateway.grpc.pb.h"
#include "gateway/transport/ask.hpp"
#include "messages/actor_containers.hpp"

namespace kiln::gateway {

class bridge_service final : public gw::LLBBridge::CallbackService {
 public:
  /// Finds builds by header. Without containers, their calls are refused.
  bridge_service(caf::actor_system& system, handle_source<builds_actor> builds,
                 handle_source<containers_actor> containers);
  /// Serves one build.
  bridge_service(caf::actor_system& system, build_actor build, handle_source<containers_actor> containers);

  using context = grpc::CallbackServerContext;
  using reactor = grpc::ServerUnaryReactor;

  reactor* ResolveImageConfig(context*, const gw::ResolveImageConfigRequest*,
                              gw::ResolveImageConfigResponse*) override;
  reactor* ResolveSourceMeta(context*, const gw::ResolveSourceMetaRequest*,
                             gw::ResolveSourceMetaResponse*) override;
  reactor* Solve(context*, const gw::SolveRequest*, gw::SolveResponse*) override;
  reactor* ReadFile(context*, const gw::ReadFileRequest*, gw::ReadFileResponse*) override;
  reactor* ReadDir(context*, const gw::ReadDirRequest*, gw::ReadDirResponse*) override;
  reactor* StatFile(context*, const gw::StatFileRequest*, gw::StatFileResponse*) override;
  reactor* Evaluate(context*, const gw::EvaluateRequest*, gw::EvaluateResponse*) override;
  reactor* Ping(context*, const gw::PingRequest*, gw::PongResponse*) override;
  reactor* Return(context*, const gw::ReturnRequest*, gw::ReturnResponse*) override;
  reactor* Inputs(context*, const gw::InputsRequest*, gw::InputsResponse*) override;
  reactor* Warn(context*, const gw::WarnRequest*, gw::WarnResponse*) override;
  reactor* NewContainer(context*, const gw::NewContainerRequest*, gw::NewContainerResponse*) override;
  reactor* ReleaseContainer(context*, const gw::ReleaseContainerRequest*,
                            gw::ReleaseContainerResponse*) override;
  reactor* ReadFileContainer(context*, const gw::ReadFileRequest*, gw::ReadFileResponse*) override;
  reactor* ReadDirContainer(context*, const gw::ReadDirRequest*, gw::ReadDirResponse*) override;
  reactor* StatFileContainer(context*, const gw::StatFileRequest*, gw::StatFileResponse*) override;
  grpc::ServerBidiReactor<gw::ExecMessage, gw::ExecMessage>* ExecProcess(context*) override;

 private:
  /// Looks the build up, then asks it; errors of the look-up say which call was forwarded.
  template <class Request, class Response>
  reactor* forward(context* c, std::string_view method, const Request* request, Response* response);
  /// Looks the build up, then asks the containers actor on its behalf.
  template <class Request, class Response>
  reactor* to_containers(context* c, std::string_view method, const Request* request, Response* response);
  /// Looks the build up and hands it, with the call's requester, to `use`.
  template <class Response>
  reactor* with_build(
      context* c, std::string_view method, const google::protobuf::Message& request, Response* response,
      std::function<void(caf::event_based_actor*, std::shared_ptr<call_guard<unary_call<Response>>>,
                         const build_actor&)>
          use);

  caf::actor_system& system_;
  handle_source<builds_actor> builds_;
  build_actor fixed_;
  handle_source<containers_actor> containers_;
};

}  // namespace kiln::gateway
