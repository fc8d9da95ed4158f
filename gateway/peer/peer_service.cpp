#include "gateway/peer/peer_service.hpp"

#include <grpc/grpc_security_constants.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <latch>

#include "base/utf8.hpp"
#include "gateway/peer/peer_requests.hpp"
#include "gateway/transport/reactors.hpp"
#include "gateway/transport/served_stream.hpp"
#include "messages/rpc_status.hpp"
#include "rpc_status.pb.h"

namespace kiln::gateway {

namespace api = peer_api;

namespace {

error too_many_calls() { return make_error(errc::resource_exhausted, "too many calls at a time"); }

/// Tells a waiting peer that work goes on.
template <class Response>
class life_signs final : public progress_sink {
 public:
  explicit life_signs(stream_call<Response>& call) : call_(call) {}
  void log(int, std::string_view) override {}
  void progress(std::string_view, std::int64_t current, std::int64_t, bool) override {
    if (call_.backlog_bytes() > 1024) return;  // the peer does not listen: these it has not heard are enough
    Response sign;
    sign.set_working(current);
    call_.send(std::move(sign));
  }
  void warn(std::string_view) override {}

 private:
  stream_call<Response>& call_;
};

/// The names that the certificate of whoever calls is for.
std::vector<std::string> callers(const grpc::CallbackServerContext& context) {
  std::vector<std::string> out;
  for (const auto& name : context.auth_context()->FindPropertyValues(GRPC_PEER_DNS_PROPERTY_NAME))
    out.emplace_back(name.data(), name.size());
  return out;
}

std::string named(const std::vector<std::string>& nodes) {
  return nodes.empty() ? "a node without a name" : "node " + nodes.front();
}

/// A permit for one more call of that node, held while it is under way; resource_exhausted when the node has
/// enough.
result<std::shared_ptr<void>> permit_for(const std::vector<std::string>& nodes, quota<std::string>& calls) {
  auto node = nodes.empty() ? "" : nodes.front();
  if (auto permit = calls.enter(node)) return permit;
  return make_error(errc::resource_exhausted, "too many calls at a time: " + named(nodes) + " has " +
                                                  std::to_string(calls.each_max()) + " under way here");
}

/// Runs `work(job)` on the pool; it ends the call, which is cancelled with the peer.
template <class Response, class Work>
grpc::ServerWriteReactor<Response>* start(std::string_view method, thread_pool& pool,
                                          quota<std::string>& calls,
                                          const grpc::CallbackServerContext& context, Work work) {
  auto call = stream_call<Response>::make(method);
  auto* reactor = call.get();
  auto permit = permit_for(callers(context), calls);
  if (!permit.ok()) return call->fail(permit.error()), reactor;
  std::stop_source stop;
  call->on_cancel([stop]() mutable { stop.request_stop(); });
  bool taken = pool.submit([call, stop, permit = *std::move(permit), work = std::move(work)] {
    life_signs<Response> signs(*call);
    job_context job;
    job.stop = stop.get_token();
    job.progress = &signs;
    if (auto s = work(*call, job); !s.ok()) return call->fail(s.error());
    call->succeed();
  });
  if (!taken) call->fail(too_many_calls());
  return reactor;
}

api::SessionFrame verdict_frame(const status& s) {
  api::SessionFrame out;
  auto& verdict = *out.mutable_verdict();
  if (s.ok()) return out;
  google::rpc::Status proto;
  to_rpc_status(s.error(), proto);
  verdict.set_status(proto.SerializeAsString());
  return out;
}

using session_stream = served_stream<api::SessionFrame, api::SessionFrame>;

/// The call of one session, from its first frame to its verdict.
status relay(session_stream& peer, session_directory& sessions, const session_access& access,
             const std::vector<std::string>& nodes, thread_pool& pool, quota<std::string>& threads) {
  api::SessionFrame first;
  if (!peer.read(first)) return client_gone();
  auto asked = call_asked_for(std::move(first), nodes, access);
  if (!asked.ok()) {
    spdlog::warn("{} is refused a session call: {}", named(nodes), asked.error().message);
    if (asked.error().code == errc::invalid_argument) return std::move(asked).error();
    return peer.write(verdict_frame(std::move(asked).error())), status{};
  }
  auto found = sessions.find(asked->session, std::chrono::milliseconds{0}, peer.gone());
  if (!found.ok()) return peer.write(verdict_frame(std::move(found).error())), status{};
  auto& session = **found;

  if (asked->unary) {
    auto answer = session.call(asked->method, asked->request, asked->metadata, asked->timeout, peer.gone());
    if (answer.ok()) {
      api::SessionFrame frame;
      frame.set_message(*std::move(answer));
      peer.write(std::move(frame));
      peer.write(verdict_frame({}));
    } else {
      peer.write(verdict_frame(std::move(answer).error()));
    }
    return {};
  }

  auto second_thread = permit_for(nodes, threads);
  if (!second_thread.ok()) return std::move(second_thread).error();
  std::stop_source give_up;
  std::stop_callback forward(peer.gone(), [&give_up] { give_up.request_stop(); });
  auto opened = session.open(asked->method, asked->metadata, give_up.get_token());
  if (!opened.ok()) return peer.write(verdict_frame(std::move(opened).error())), status{};
  auto& stream = **opened;
  {
    std::atomic<bool> answered{false};
    std::latch up_ended{1};
    bool up = pool.submit([&] {
      struct end {
        std::latch& ended;
        ~end() { ended.count_down(); }
      } end{up_ended};
      api::SessionFrame frame;
      while (peer.read(frame)) {
        if (frame.kind_case() == api::SessionFrame::kHalfClose) return stream.writes_done();
        if (frame.kind_case() == api::SessionFrame::kMessage && !stream.write(frame.message())) return;
      }
      // Gone without having said that this was all.
      if (!answered) give_up.request_stop();
    });
    if (!up) return too_many_calls();
    api::SessionFrame frame;
    while (stream.read(*frame.mutable_message())) {
      if (peer.write(std::move(frame))) continue;
      give_up.request_stop();
      break;
    }
    answered = true;
    peer.end_reads();
    up_ended.wait();
  }
  peer.write(verdict_frame(stream.finish()));
  return {};
}

}  // namespace

grpc::ServerWriteReactor<api::DescribeRefResponse>* peer_service::DescribeRef(
    context* c, const api::DescribeRefRequest* request) {
  return start<api::DescribeRefResponse>("Peer/DescribeRef", describing_, describe_calls_, *c,
                                         [this, r = *request](auto& call, const job_context& job) -> status {
                                           KILN_TRY(auto id, ref_asked_for(r));
                                           KILN_TRY(auto ref, refs_.get(id));
                                           KILN_TRY(auto layers, refs_.peers().export_to_peer(ref, job));
                                           api::DescribeRefResponse answer;
                                           auto& out = *answer.mutable_result();
                                           auto options = ref.options();
                                           out.set_description(valid_utf8(options.description));
                                           out.set_type(static_cast<int>(options.type));
                                           for (const auto& layer : layers)
                                             *out.add_layers() = to_proto(layer);
                                           call.send(std::move(answer));
                                           return {};
                                         });
}

grpc::ServerWriteReactor<api::ProvideBlobResponse>* peer_service::ProvideBlob(
    context* c, const api::ProvideBlobRequest* request) {
  return start<api::ProvideBlobResponse>("Peer/ProvideBlob", describing_, describe_calls_, *c,
                                         [this, r = *request](auto&, const job_context& job) -> status {
                                           KILN_TRY(auto wanted, blob_asked_for(r));
                                           if (refs_.blobs().has(wanted.blob)) return {};
                                           KILN_TRY(auto ref, refs_.get(wanted.ref));
                                           return refs_.layers().fetch(ref, wanted.blob, job);
                                         });
}

grpc::ServerUnaryReactor* peer_service::SessionInfo(context* c, const api::SessionInfoRequest* request,
                                                    api::SessionInfoResponse* response) {
  auto call = unary_call<api::SessionInfoResponse>::make("Peer/SessionInfo", response);
  auto* reactor = call.get();
  std::stop_source stop;
  call->on_cancel([stop]() mutable { stop.request_stop(); });
  // Having waited in vain is no failure of this node's.
  call->on_finish([](const error*) {});
  auto nodes = callers(*c);
  auto asked = session_asked_for(*request, nodes, access_);
  if (!asked.ok()) {
    spdlog::warn("{} is not told of session {}: {}", named(nodes), request->id().substr(0, 64),
                 asked.error().message);
    call->fail(asked.error());
    return reactor;
  }
  auto permit = permit_for(nodes, session_threads_);
  if (!permit.ok()) return call->fail(permit.error()), reactor;
  bool taken =
      calls_.submit([this, call, stop, nodes, asked = *std::move(asked), permit = *std::move(permit)] {
        auto found = sessions_.find(asked.session, asked.wait, stop.get_token());
        if (!found.ok()) return call->fail(found.error());
        api::SessionInfoResponse answer;
        answer.set_shared_key((*found)->shared_key());
        for (const auto& method : (*found)->methods())
          if (access_.offers(nodes, asked.session, method)) answer.add_methods(method);
        call->succeed(std::move(answer));
      });
  if (!taken) call->fail(too_many_calls());
  return reactor;
}

grpc::ServerBidiReactor<api::SessionFrame, api::SessionFrame>* peer_service::SessionCall(context* c) {
  auto call = session_stream::make();
  auto* reactor = call.get();
  auto nodes = callers(*c);
  auto permit = permit_for(nodes, session_threads_);
  if (!permit.ok()) return call->finish(std::move(permit).error()), reactor;
  bool taken = calls_.submit([this, call, nodes = std::move(nodes), permit = *std::move(permit)] {
    call->finish(relay(*call, sessions_, access_, nodes, calls_, session_threads_));
  });
  if (!taken) call->finish(too_many_calls());
  return reactor;
}

}  // namespace kiln::gateway
