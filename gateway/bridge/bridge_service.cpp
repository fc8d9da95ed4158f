#include "gateway/bridge/bridge_service.hpp"

#include "gateway/bridge/exec_call.hpp"
#include "messages/outside_fields.hpp"

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
                                             ": this daemon runs no containers for gateway clients");
}

error no_build_id(std::string_view method) {
  return make_error(errc::unknown, "no buildid found in context").with_context(forwarding(method));
}

template <class Response>
using guard_pointer = std::shared_ptr<call_guard<unary_call<Response>>>;

/// The answer of an actor as that of the call.
template <class Response, class Handle, class... Args>
void pass_on(caf::event_based_actor* self, const guard_pointer<Response>& guard, const Handle& target,
             Args&&... args) {
  request_for<unary_call<Response>, Response>(
      self, guard, target,
      [](unary_call<Response>& call, Response& answer) { call.succeed(std::move(answer)); },
      std::forward<Args>(args)...);
}

}  // namespace

bridge_service::bridge_service(caf::actor_system& system, handle_source<builds_actor> builds,
                               handle_source<containers_actor> containers)
    : system_(system), builds_(std::move(builds)), containers_(std::move(containers)) {}

bridge_service::bridge_service(caf::actor_system& system, build_actor build,
                               handle_source<containers_actor> containers)
    : system_(system), fixed_(std::move(build)), containers_(std::move(containers)) {}

template <class Response>
bridge_service::reactor* bridge_service::with_build(
    context* c, std::string_view method, const google::protobuf::Message& request, Response* response,
    std::function<void(caf::event_based_actor*, guard_pointer<Response>, const build_actor&)> use) {
  using call_type = unary_call<Response>;
  auto call = call_type::make(method, response);
  auto* reactor = call.get();
  auto guard = std::make_shared<call_guard<call_type>>(call);
  if (auto s = check_fields(request); !s.ok()) {
    call->fail(std::move(s).error());
    return reactor;
  }
  builds_actor builds;
  std::string id;
  if (!fixed_) {
    id = build_id(*c);
    if (id.empty()) {
      call->fail(no_build_id(method));
      return reactor;
    }
    builds = builds_();
    if (!builds) {
      call->fail(make_error(errc::unavailable, "the daemon's builds are not running"));
      return reactor;
    }
  }
  auto requester = actors::spawn_outside(
      system_,
      [=, known = fixed_, use = std::move(use)](caf::event_based_actor* self, caf::unit_t) {
        if (known) return use(self, guard, known);
        watch_target(self, builds, [guard](error e) { (*guard)->fail(e); });
        self->request(builds, caf::infinite, find_atom::value, id)
            .then(
                [=](build_actor& build) {
                  self->demonitor(caf::actor_cast<caf::actor>(builds));
                  use(self, guard, build);
                },
                [=](caf::error& e) {
                  (*guard)->fail(from_caf(e).with_context(forwarding(method)));
                  self->demonitor(caf::actor_cast<caf::actor>(builds));
                  self->quit();
                });
      },
      caf::unit);
  call->on_cancel([requester] { caf::anon_send_exit(requester, caf::exit_reason::user_shutdown); });
  return reactor;
}

template <class Request, class Response>
bridge_service::reactor* bridge_service::forward(context* c, std::string_view method, const Request* request,
                                                 Response* response) {
  return with_build<Response>(
      c, method, *request, response,
      [request = *request](caf::event_based_actor* self, guard_pointer<Response> guard,
                           const build_actor& build) { pass_on(self, guard, build, request); });
}

template <class Request, class Response>
bridge_service::reactor* bridge_service::to_containers(context* c, std::string_view method,
                                                       const Request* request, Response* response) {
  auto containers = containers_ ? containers_() : containers_actor{};
  return with_build<Response>(
      c, method, *request, response,
      [request = *request, containers, method](caf::event_based_actor* self, guard_pointer<Response> guard,
                                               const build_actor& build) {
        if (!containers) return (*guard)->fail(containers_unsupported(method));
        pass_on(self, guard, containers, build, request);
      });
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

bridge_service::reactor* bridge_service::NewContainer(context* c, const gw::NewContainerRequest* request,
                                                      gw::NewContainerResponse* response) {
  return to_containers(c, "LLBBridge/NewContainer", request, response);
}
bridge_service::reactor* bridge_service::ReleaseContainer(context* c,
                                                          const gw::ReleaseContainerRequest* request,
                                                          gw::ReleaseContainerResponse* response) {
  return to_containers(c, "LLBBridge/ReleaseContainer", request, response);
}
bridge_service::reactor* bridge_service::ReadFileContainer(context* c, const gw::ReadFileRequest* request,
                                                           gw::ReadFileResponse* response) {
  return to_containers(c, "LLBBridge/ReadFileContainer", request, response);
}
bridge_service::reactor* bridge_service::ReadDirContainer(context* c, const gw::ReadDirRequest* request,
                                                          gw::ReadDirResponse* response) {
  return to_containers(c, "LLBBridge/ReadDirContainer", request, response);
}
bridge_service::reactor* bridge_service::StatFileContainer(context* c, const gw::StatFileRequest* request,
                                                           gw::StatFileResponse* response) {
  return to_containers(c, "LLBBridge/StatFileContainer", request, response);
}

grpc::ServerBidiReactor<gw::ExecMessage, gw::ExecMessage>* bridge_service::ExecProcess(context* c) {
  constexpr auto method = "LLBBridge/ExecProcess";
  auto containers = containers_ ? containers_() : containers_actor{};
  if (!containers) return refuse_exec_call(containers_unsupported(method));
  build_lookup lookup{fixed_, {}, {}};
  if (!fixed_) {
    lookup.ref = build_id(*c);
    if (lookup.ref.empty()) return refuse_exec_call(no_build_id(method));
    lookup.builds = builds_();
    if (!lookup.builds)
      return refuse_exec_call(make_error(errc::unavailable, "the daemon's builds are not running"));
  }
  return open_exec_call(system_, lookup, containers);
}

}  // namespace kiln::gateway
