#include "gateway/control/control_service.hpp"

#include <spdlog/spdlog.h>

#include <chrono>

#include "configs/gateway.hpp"
#include "gateway/control/control_requests.hpp"
#include "gateway/transport/listen_stream.hpp"

namespace kiln::gateway {

namespace {

namespace cfg = configs::gateway;

constexpr auto timestamp_header = "buildkit-current-timestamp";

/// Sends a message of a stream whose client may not read it.
template <class Message>
void send_bounded(stream_call<Message>& call, Message message) {
  if (call.backlog_bytes() > cfg::stream_backlog_bytes_max)
    return call.give_up(
        make_error(errc::resource_exhausted, "more than " + std::to_string(cfg::stream_backlog_bytes_max) +
                                                 " bytes of the stream wait to be read"));
  call.send(std::move(message));
}

/// Sends a status delta in parts. A client that does not read loses log text and passing progress, never
/// states.
void send_status(stream_call<ctl::StatusResponse>& call, ctl::StatusResponse& delta) {
  if (call.backlog_bytes() > cfg::status_backlog_bytes_max) {
    drop_passing(delta);
    if (delta.vertexes_size() == 0 && delta.statuses_size() == 0 && delta.warnings_size() == 0) return;
  }
  for (auto& part : split_status(std::move(delta), cfg::status_message_bytes_max))
    send_bounded(call, std::move(part));
}

/// Logs a finished build: one line.
class solve_report {
 public:
  explicit solve_report(std::string ref) : ref_(std::move(ref)) {}
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
  }
  void succeeded() const { spdlog::info("solve {} finished in {:.2f} s", ref_, seconds()); }
  void failed(const error& e) const {
    spdlog::info("solve {} failed after {:.2f} s: {}: {}", ref_, seconds(), to_string(e.code), e.message);
    log_stacks(e);
  }

 private:
  std::string ref_;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

}  // namespace

control_service::control_service(const services& s, tunnel_pump& pump, call_gate& solves)
    : services_(s), pump_(pump), solves_(solves) {}

grpc::ServerUnaryReactor* control_service::Info(grpc::CallbackServerContext* context, const ctl::InfoRequest*,
                                                ctl::InfoResponse* response) {
  auto* version = response->mutable_buildkitversion();
  version->set_package(services_.package);
  version->set_version(services_.version);
  version->set_revision(services_.revision);
  version->set_dockerfileversion(services_.dockerfile_version);
  auto* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* control_service::ListWorkers(grpc::CallbackServerContext*,
                                                       const ctl::ListWorkersRequest* request,
                                                       ctl::ListWorkersResponse* response) {
  auto call = unary_call<ctl::ListWorkersResponse>::make("Control/ListWorkers", response);
  ask_unary(*services_.system, call, services_.workers(), list_atom::value, *request);
  return call.get();
}

grpc::ServerUnaryReactor* control_service::Solve(grpc::CallbackServerContext*,
                                                 const ctl::SolveRequest* request,
                                                 ctl::SolveResponse* response) {
  auto call = unary_call<ctl::SolveResponse>::make("Control/Solve", response);
  auto* reactor = call.get();
  if (!services_.no_builds.empty()) {
    call->fail(make_error(errc::failed_precondition, services_.no_builds));
    return reactor;
  }
  auto inside = solves_.enter();
  if (!inside) {
    call->fail(make_error(errc::unavailable, "the daemon is shutting down"));
    return reactor;
  }
  if (solves_.inside() > cfg::builds_max) {
    call->fail(make_error(errc::resource_exhausted,
                          std::to_string(cfg::builds_max) + " builds are running, no more are accepted"));
    return reactor;
  }
  std::shared_ptr<void> counted;
  if (auto running = services_.running_builds) {
    ++*running;
    counted = std::shared_ptr<void>(nullptr, [running](void*) { --*running; });
  }
  auto report = std::make_shared<solve_report>(request->ref());
  auto builds = services_.builds();
  call->on_finish([report, inside, counted, builds, ref = request->ref()](const error* e) {
    if (!e) return report->succeeded();
    report->failed(*e);
    if (e->code == errc::cancelled && builds) caf::anon_send(builds, cancel_atom::value, ref);
  });
  ask_unary(*services_.system, std::move(call), builds, solve_atom::value, *request);
  return reactor;
}

grpc::ServerWriteReactor<ctl::StatusResponse>* control_service::Status(grpc::CallbackServerContext* context,
                                                                       const ctl::StatusRequest* request) {
  context->AddInitialMetadata(timestamp_header, rfc3339_nano_now());
  auto call = stream_call<ctl::StatusResponse>::make("Control/Status");
  auto* reactor = call.get();
  call->send_headers();
  listen<status_listener, ctl::StatusResponse>(*services_.system, std::move(call), services_.builds(), false,
                                               std::function(send_status), watch_atom::value, request->ref());
  return reactor;
}

session_reactor* control_service::Session(grpc::CallbackServerContext* context) {
  return open_session_tunnel(context, pump_, services_.sessions, services_.spawn_session);
}

grpc::ServerUnaryReactor* control_service::DiskUsage(grpc::CallbackServerContext*,
                                                     const ctl::DiskUsageRequest* request,
                                                     ctl::DiskUsageResponse* response) {
  auto call = unary_call<ctl::DiskUsageResponse>::make("Control/DiskUsage", response);
  ask_unary(*services_.system, call, services_.cache_manager(), *request);
  return call.get();
}

grpc::ServerWriteReactor<ctl::UsageRecord>* control_service::Prune(grpc::CallbackServerContext*,
                                                                   const ctl::PruneRequest* request) {
  using prune_call = stream_call<ctl::UsageRecord>;
  auto call = prune_call::make("Control/Prune");
  auto* reactor = call.get();
  listen<prune_listener, ctl::UsageRecord>(
      *services_.system, std::move(call), services_.cache_manager(), false,
      std::function([](prune_call& c, ctl::UsageRecord& record) { send_bounded(c, std::move(record)); }),
      rule_of(*request));
  return reactor;
}

grpc::ServerWriteReactor<ctl::BuildHistoryEvent>* control_service::ListenBuildHistory(
    grpc::CallbackServerContext* context, const ctl::BuildHistoryRequest* request) {
  using history_call = stream_call<ctl::BuildHistoryEvent>;
  context->AddInitialMetadata(timestamp_header, rfc3339_nano_now());
  auto call = history_call::make("Control/ListenBuildHistory");
  auto* reactor = call.get();
  call->send_headers();
  listen<history_listener, ctl::BuildHistoryEvent>(
      *services_.system, std::move(call), services_.history(), false,
      std::function(
          [](history_call& c, ctl::BuildHistoryEvent& event) { send_bounded(c, std::move(event)); }),
      *request);
  return reactor;
}

grpc::ServerUnaryReactor* control_service::UpdateBuildHistory(grpc::CallbackServerContext*,
                                                              const ctl::UpdateBuildHistoryRequest* request,
                                                              ctl::UpdateBuildHistoryResponse* response) {
  auto call = unary_call<ctl::UpdateBuildHistoryResponse>::make("Control/UpdateBuildHistory", response);
  ask_unary(*services_.system, call, services_.history(), *request);
  return call.get();
}

}  // namespace kiln::gateway
