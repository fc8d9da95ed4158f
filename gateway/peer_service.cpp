#include "gateway/peer_service.hpp"

#include <atomic>
#include <thread>

#include "gateway/reactors.hpp"
#include "gateway/served_stream.hpp"
#include "messages/rpc_status.hpp"
#include "rpc_status.pb.h"

namespace kiln::gateway {

namespace api = peer_api;

namespace {

api::LayerBlob to_proto(const store::layer_blob& blob) {
  api::LayerBlob out;
  out.set_media_type(blob.blob.media_type);
  out.set_digest(blob.blob.digest.str());
  out.set_size(blob.blob.size);
  out.set_diff_id(blob.diff_id.str());
  for (const auto& [key, value] : blob.blob.annotations) (*out.mutable_annotations())[key] = value;
  for (const auto& url : blob.blob.urls) out.add_urls(url);
  return out;
}

result<store::layer_blob> from_proto(const api::LayerBlob& blob) {
  store::layer_blob out;
  KILN_TRY(out.blob.digest, digest::parse(blob.digest()));
  KILN_TRY(out.diff_id, digest::parse(blob.diff_id()));
  if (blob.size() < 0) return make_error(errc::invalid_argument, "a blob of negative size");
  out.blob.media_type = blob.media_type();
  out.blob.size = blob.size();
  out.blob.annotations.insert(blob.annotations().begin(), blob.annotations().end());
  out.blob.urls.assign(blob.urls().begin(), blob.urls().end());
  return out;
}

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

/// Runs `work(job)` on the pool; it ends the call, which is cancelled with the peer.
template <class Response, class Work>
grpc::ServerWriteReactor<Response>* start(std::string_view method, blocking_pool& pool, Work work) {
  auto call = stream_call<Response>::make(method);
  auto* reactor = call.get();
  std::stop_source stop;
  call->on_cancel([stop]() mutable { stop.request_stop(); });
  pool.submit([call, stop, work = std::move(work)] {
    life_signs<Response> signs(*call);
    job_context job;
    job.stop = stop.get_token();
    job.progress = &signs;
    if (auto s = work(*call, job); !s.ok()) return call->fail(s.error());
    call->succeed();
  });
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
status relay(session_stream& peer, session_directory& sessions) {
  api::SessionFrame first;
  if (!peer.read(first)) return client_gone();
  if (!first.has_open()) return make_error(errc::invalid_argument, "a session call begins with its opening");
  const auto& open = first.open();
  call_metadata metadata;
  for (const auto& header : open.metadata()) metadata.emplace_back(header.key(), header.value());
  auto found = sessions.find(open.session(), std::chrono::milliseconds{0}, peer.gone());
  if (!found.ok()) return peer.write(verdict_frame(std::move(found).error())), status{};
  auto& session = **found;

  if (open.unary()) {
    auto answer = session.call(open.method(), open.request(), metadata,
                               std::chrono::milliseconds{open.timeout_ms()}, peer.gone());
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

  std::stop_source give_up;
  std::stop_callback forward(peer.gone(), [&give_up] { give_up.request_stop(); });
  auto opened = session.open(open.method(), metadata, give_up.get_token());
  if (!opened.ok()) return peer.write(verdict_frame(std::move(opened).error())), status{};
  auto& stream = **opened;
  {
    std::atomic<bool> answered{false};
    std::jthread up([&] {
      api::SessionFrame frame;
      while (peer.read(frame)) {
        if (frame.kind_case() == api::SessionFrame::kHalfClose) return stream.writes_done();
        if (frame.kind_case() == api::SessionFrame::kMessage && !stream.write(frame.message())) return;
      }
      // Gone without having said that this was all.
      if (!answered) give_up.request_stop();
    });
    api::SessionFrame frame;
    while (stream.read(*frame.mutable_message())) {
      if (peer.write(std::move(frame))) continue;
      give_up.request_stop();
      break;
    }
    answered = true;
    peer.end_reads();
  }
  peer.write(verdict_frame(stream.finish()));
  return {};
}

}  // namespace

api::RefLayer to_proto(const store::shipped_layer& layer) {
  api::RefLayer out;
  out.set_origin(layer.origin);
  for (const auto& blob : layer.blobs) *out.add_blobs() = to_proto(blob);
  if (layer.transport) *out.mutable_transport() = to_proto(*layer.transport);
  if (layer.archive) *out.mutable_archive() = to_proto(*layer.archive);
  out.set_description(valid_utf8(layer.description));
  out.set_created_at_ns(layer.created_at_ns);
  out.set_rebased(layer.rebased);
  return out;
}

result<store::shipped_layer> from_proto(const api::RefLayer& layer) {
  store::shipped_layer out;
  out.origin = layer.origin();
  out.description = layer.description();
  out.created_at_ns = layer.created_at_ns();
  out.rebased = layer.rebased();
  for (const auto& blob : layer.blobs()) {
    KILN_TRY(auto b, from_proto(blob));
    out.blobs.push_back(std::move(b));
  }
  if (layer.has_transport()) {
    KILN_TRY(out.transport, from_proto(layer.transport()));
  }
  if (layer.has_archive()) {
    KILN_TRY(out.archive, from_proto(layer.archive()));
  }
  if (!out.transport && out.blobs.empty())
    return make_error(errc::invalid_argument, "a layer without any blob");
  return out;
}

grpc::ServerWriteReactor<api::DescribeRefResponse>* peer_service::DescribeRef(
    context*, const api::DescribeRefRequest* request) {
  return start<api::DescribeRefResponse>(
      "Peer/DescribeRef", describing_,
      [this, id = request->id()](auto& call, const job_context& job) -> status {
        KILN_TRY(auto ref, refs_.get(id));
        KILN_TRY(auto layers, refs_.ship(ref, job));
        api::DescribeRefResponse answer;
        auto& out = *answer.mutable_result();
        auto options = refs_.options_of(ref);
        out.set_description(valid_utf8(options.description));
        out.set_type(static_cast<int>(options.type));
        for (const auto& layer : layers) *out.add_layers() = to_proto(layer);
        call.send(std::move(answer));
        return {};
      });
}

grpc::ServerWriteReactor<api::ProvideBlobResponse>* peer_service::ProvideBlob(
    context*, const api::ProvideBlobRequest* request) {
  return start<api::ProvideBlobResponse>("Peer/ProvideBlob", describing_,
                                         [this, r = *request](auto&, const job_context& job) -> status {
                                           KILN_TRY(auto wanted, digest::parse(r.digest()));
                                           if (refs_.blobs().has(wanted)) return {};
                                           KILN_TRY(auto ref, refs_.get(r.ref()));
                                           return refs_.bring_blob(ref, wanted, job);
                                         });
}

grpc::ServerUnaryReactor* peer_service::SessionInfo(context*, const api::SessionInfoRequest* request,
                                                    api::SessionInfoResponse* response) {
  auto call = unary_call<api::SessionInfoResponse>::make("Peer/SessionInfo", response);
  auto* reactor = call.get();
  std::stop_source stop;
  call->on_cancel([stop]() mutable { stop.request_stop(); });
  // Having waited in vain is no failure of this node's.
  call->on_finish([](const error*) {});
  bool taken = calls_.submit([this, call, stop, r = *request] {
    auto found = sessions_.find(r.id(), std::chrono::milliseconds{r.wait_ms()}, stop.get_token());
    if (!found.ok()) return call->fail(found.error());
    api::SessionInfoResponse answer;
    answer.set_shared_key((*found)->shared_key());
    for (const auto& method : (*found)->methods()) answer.add_methods(method);
    call->succeed(std::move(answer));
  });
  if (!taken) call->fail(make_error(errc::resource_exhausted, "too many session calls at a time"));
  return reactor;
}

grpc::ServerBidiReactor<api::SessionFrame, api::SessionFrame>* peer_service::SessionCall(context*) {
  auto call = session_stream::make();
  auto* reactor = call.get();
  bool taken = calls_.submit([this, call] { call->finish(relay(*call, sessions_)); });
  if (!taken) call->finish(make_error(errc::resource_exhausted, "too many session calls at a time"));
  return reactor;
}

}  // namespace kiln::gateway
