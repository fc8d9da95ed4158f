#include "gateway/bridge_service.hpp"

#include <algorithm>

namespace kiln::gateway {

namespace {

constexpr auto build_id_header = "buildkit-controlapi-buildid";

std::string build_id(const grpc::CallbackServerContext& context) {
  auto it = context.client_metadata().find(build_id_header);
  return it == context.client_metadata().end() ? std::string{}
                                               : std::string(it->second.data(), it->second.size());
}

std::string forwarding(std::string_view method) {
  return "forwarding " + std::string(method.substr(method.find('/') + 1));
}

error containers_unsupported(std::string_view method) {
  return make_error(errc::unimplemented, std::string(method.substr(method.find('/') + 1)) +
                                             ": gateway containers are not supported by this daemon yet");
}

template <class Response>
grpc::ServerUnaryReactor* refuse(std::string_view method, Response* response) {
  auto call = unary_call<Response>::make(method, response);
  auto* reactor = call.get();
  call->fail(containers_unsupported(method));
  return reactor;
}

}  // namespace

bridge_service::bridge_service(caf::actor_system& system, door<builds_actor> builds)
    : system_(system), builds_(std::move(builds)) {}

bridge_service::bridge_service(caf::actor_system& system, build_actor build)
    : system_(system), fixed_(std::move(build)) {}

template <class Request, class Response>
grpc::ServerUnaryReactor* bridge_service::forward(context* c, std::string_view method, const Request* request,
                                                  Response* response) {
  using call_type = unary_call<Response>;
  auto call = call_type::make(method, response);
  auto* reactor = call.get();
  if (fixed_) {
    ask_unary(system_, std::move(call), fixed_, *request);
    return reactor;
  }
  auto id = build_id(*c);
  if (id.empty()) {
    call->fail(make_error(errc::unknown, "no buildid found in context").with_context(forwarding(method)));
    return reactor;
  }
  auto builds = builds_();
  if (!builds) {
    call->fail(make_error(errc::unavailable, "the daemon's builds are not running"));
    return reactor;
  }
  auto guard = std::make_shared<call_guard<call_type>>(call);
  auto requester = system_.spawn([=, request = *request](caf::event_based_actor* self) mutable {
    watch_target(self, builds, [guard](error e) { (*guard)->fail(e); });
    auto found = [=, request = std::move(request)](build_actor& build) mutable {
      self->demonitor(caf::actor_cast<caf::actor>(builds));
      watch_target(self, build, [guard](error e) { (*guard)->fail(e); });
      auto plain = caf::actor_cast<caf::actor>(build);
      self->request(build, caf::infinite, std::move(request))
          .then(
              [=](Response& answer) {
                (*guard)->succeed(std::move(answer));
                self->demonitor(plain);
                self->quit();
              },
              [=](caf::error& e) {
                (*guard)->fail(from_caf(e));
                self->demonitor(plain);
                self->quit();
              });
    };
    self->request(builds, caf::infinite, find_atom::value, id).then(std::move(found), [=](caf::error& e) {
      (*guard)->fail(from_caf(e).with_context(forwarding(method)));
      self->demonitor(caf::actor_cast<caf::actor>(builds));
      self->quit();
    });
  });
  call->on_cancel([requester] { caf::anon_send_exit(requester, caf::exit_reason::user_shutdown); });
  return reactor;
}

#define KILN_FORWARD(Method)                                                                      \
  bridge_service::reactor* bridge_service::Method(context* c, const gw::Method##Request* request, \
                                                  gw::Method##Response* response) {               \
    return forward(c, "LLBBridge/" #Method, request, response);                                   \
  }
KILN_FORWARD(ResolveImageConfig)
KILN_FORWARD(ResolveSourceMeta)
KILN_FORWARD(Solve)
KILN_FORWARD(ReadFile)
KILN_FORWARD(ReadDir)
KILN_FORWARD(StatFile)
KILN_FORWARD(Evaluate)
KILN_FORWARD(Return)
KILN_FORWARD(Inputs)
KILN_FORWARD(Warn)
#undef KILN_FORWARD

bridge_service::reactor* bridge_service::Ping(context* c, const gw::PingRequest* request,
                                              gw::PongResponse* response) {
  return forward(c, "LLBBridge/Ping", request, response);
}

bridge_service::reactor* bridge_service::NewContainer(context*, const gw::NewContainerRequest*,
                                                      gw::NewContainerResponse* response) {
  return refuse("LLBBridge/NewContainer", response);
}
bridge_service::reactor* bridge_service::ReleaseContainer(context*, const gw::ReleaseContainerRequest*,
                                                          gw::ReleaseContainerResponse* response) {
  return refuse("LLBBridge/ReleaseContainer", response);
}
bridge_service::reactor* bridge_service::ReadFileContainer(context*, const gw::ReadFileRequest*,
                                                           gw::ReadFileResponse* response) {
  return refuse("LLBBridge/ReadFileContainer", response);
}
bridge_service::reactor* bridge_service::ReadDirContainer(context*, const gw::ReadDirRequest*,
                                                          gw::ReadDirResponse* response) {
  return refuse("LLBBridge/ReadDirContainer", response);
}
bridge_service::reactor* bridge_service::StatFileContainer(context*, const gw::StatFileRequest*,
                                                           gw::StatFileResponse* response) {
  return refuse("LLBBridge/StatFileContainer", response);
}

grpc::ServerBidiReactor<gw::ExecMessage, gw::ExecMessage>* bridge_service::ExecProcess(context*) {
  class refused final : public grpc::ServerBidiReactor<gw::ExecMessage, gw::ExecMessage> {
   public:
    refused() { Finish(to_grpc(containers_unsupported("LLBBridge/ExecProcess"))); }
    void OnDone() override { delete this; }
  };
  return new refused;
}

}  // namespace kiln::gateway
