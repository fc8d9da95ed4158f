#include "client/build/solve.hpp"

#include <condition_variable>
#include <mutex>

#include <grpcpp/grpcpp.h>

#include "base/thread.hpp"
#include "client/connect/code_name.hpp"
#include "client/connect/dial.hpp"
#include "client/progress/status_proto.hpp"
#include "control.grpc.pb.h"
#include "gateway.grpc.pb.h"

namespace kiln::client {
namespace {

namespace control = moby::buildkit::v1;
namespace frontend = moby::buildkit::v1::frontend;

constexpr auto status_silence_max = std::chrono::seconds(5);  // after the build has ended

// Reads the Status stream on its own thread.
class status_reader {
 public:
  status_reader(control::Control::Stub& stub, const std::string& ref,
                std::function<void(solve_status)> progress)
      : progress_(std::move(progress)) {
    control::StatusRequest request;
    request.set_ref(ref);
    reader_ = stub.Status(&context_, request);
    thread_ = thread::must_start("status", [this] { run(); });
  }
  ~status_reader() {
    context_.TryCancel();
    if (thread_.joinable()) thread_.join();
  }

  /// Waits for the stream to end by itself; gives up when nothing comes any more.
  void drain() {
    std::unique_lock lock(mutex_);
    auto seen = received_;
    while (!ended_) {
      if (changed_.wait_for(lock, status_silence_max, [&] { return ended_ || received_ != seen; })) {
        seen = received_;
        continue;
      }
      break;
    }
    lock.unlock();
    context_.TryCancel();
    thread_.join();
  }

 private:
  void run() {
    control::StatusResponse response;
    while (reader_->Read(&response)) {
      progress_(from_proto(response));
      std::lock_guard lock(mutex_);
      ++received_;
      changed_.notify_all();
    }
    reader_->Finish();
    std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }

  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<control::StatusResponse>> reader_;
  std::function<void(solve_status)> progress_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t received_ = 0;
  bool ended_ = false;
  thread thread_;
};

// The build through LLBBridge, which alone hands out a sub-request's answer: the daemon's Solve waits without
// a frontend of its own while we are the frontend. Source: buildkit client/build.go, gateway/grpcclient.
result<std::map<std::string, std::string>> run_bridge(const std::shared_ptr<grpc::Channel>& channel,
                                                      const control::SolveRequest& request,
                                                      std::stop_token stop) {
  auto stub = frontend::LLBBridge::NewStub(channel);
  auto call = [&](auto&& rpc) {
    grpc::ClientContext context;
    context.AddMetadata("buildkit-controlapi-buildid", request.ref());
    std::stop_callback cancel(stop, [&] { context.TryCancel(); });
    return rpc(context);
  };
  frontend::PongResponse pong;
  if (auto s = call([&](auto& c) { return stub->Ping(&c, {}, &pong); }); !s.ok()) return from_grpc(s);
  frontend::SolveRequest solve;
  solve.set_frontend(request.frontend());
  for (const auto& [key, value] : request.frontendattrs()) (*solve.mutable_frontendopt())[key] = value;
  (*solve.mutable_frontendopt()).try_emplace("frontend.caps", "moby.buildkit.frontend.subrequests");
  for (const auto& import : request.cache().imports()) {
    auto* entry = solve.add_cacheimports();
    entry->set_type(import.type());
    for (const auto& [key, value] : import.attrs()) (*entry->mutable_attrs())[key] = value;
  }
  solve.set_allowresultreturn(true);
  solve.set_allowresultarrayref(true);
  frontend::SolveResponse solved;
  auto s = call([&](auto& c) { return stub->Solve(&c, solve, &solved); });
  frontend::ReturnRequest done;
  if (s.ok()) {
    *done.mutable_result() = solved.result();
  } else if (!done.mutable_error()->ParseFromString(s.error_details())) {
    done.mutable_error()->set_code(s.error_code());
    done.mutable_error()->set_message(s.error_message());
  }
  frontend::ReturnResponse returned;
  auto r = call([&](auto& c) { return stub->Return(&c, done, &returned); });
  if (!s.ok()) return from_grpc(s);
  if (!r.ok()) return from_grpc(r);
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : solved.result().metadata()) metadata[key] = value;
  return metadata;
}

}  // namespace

result<solve_outcome> run_solve(solve_options options) {
  auto stub = control::Control::NewStub(options.channel);
  KILN_CHECK(options.session->start(options.channel));
  options.request.set_session(options.session->id());
  bool sub_request = options.request.frontendattrs().contains("requestid");

  solve_outcome outcome;
  control::SolveResponse response;
  grpc::Status solved;
  std::optional<error> bridge_error;
  {
    status_reader statuses(*stub, options.request.ref(), options.progress);
    grpc::ClientContext context;
    // A cancelled call returns at once; the daemon then ends the build and the Status stream.
    std::stop_callback cancel(options.stop, [&] { context.TryCancel(); });
    if (sub_request) {
      auto direct = options.request;
      direct.clear_frontend();
      KILN_TRY(auto bridge, thread::start("bridge", [&] {
                 auto answered = run_bridge(options.channel, options.request, options.stop);
                 if (answered.ok()) outcome.sub_request = *std::move(answered);
                 else bridge_error = std::move(answered).error();
               }));
      solved = stub->Solve(&context, direct, &response);
      bridge.join();
    } else {
      solved = stub->Solve(&context, options.request, &response);
    }
    options.session->stop();
    statuses.drain();
  }
  if (options.stop.stop_requested() && !solved.ok())
    return make_error(errc::cancelled, "failed to solve: Canceled: context canceled");
  if (!solved.ok()) {
    auto e = from_grpc(solved);
    // The connection broke (gRPC's own words name no build): nothing that had finished is lost.
    if (e.code == errc::unavailable && e.details.empty())
      e.message =
          "the daemon has gone away (" + e.message + "); run the build again, finished steps are kept";
    return with_code_name(std::move(e)).with_context("failed to solve");
  }
  if (bridge_error) return *std::move(bridge_error);
  for (const auto& [key, value] : response.exporterresponse()) outcome.exporter_response[key] = value;
  return outcome;
}

}  // namespace kiln::client
