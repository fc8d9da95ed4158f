#include "gateway/control/content_service.hpp"

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/text.hpp"
#include "base/utf8.hpp"
#include "configs/gateway.hpp"
#include "gateway/transport/reactors.hpp"
#include "messages/filter.hpp"

namespace kiln::gateway {

namespace api = content_api;
namespace cfg = configs::gateway;

namespace {

error too_many_calls() { return make_error(errc::resource_exhausted, "too many calls at a time"); }
error read_only() { return make_error(errc::unknown, "read-only content store"); }

void to_proto(std::int64_t unix_ns, google::protobuf::Timestamp& out) {
  out.set_seconds(unix_ns / 1'000'000'000);
  out.set_nanos(static_cast<int>(unix_ns % 1'000'000'000));
}

void to_proto(const store::blob_info& blob, api::Info& out) {
  out.set_digest(blob.digest.str());
  out.set_size(blob.size);
  to_proto(blob.created_at_ns, *out.mutable_created_at());
  to_proto(blob.created_at_ns, *out.mutable_updated_at());
  for (const auto& [key, value] : blob.labels) (*out.mutable_labels())[valid_utf8(key)] = valid_utf8(value);
}

/// What filters may ask of a blob. Source: containerd core/content/adaptor.go.
filter::lookup fields_of(const store::blob_info& blob) {
  return [&blob](std::span<const std::string> path) -> std::optional<std::string> {
    if (path.size() == 1 && path[0] == "digest") return blob.digest.str();
    if (path.size() < 2 || path[0] != "labels") return std::nullopt;
    auto label = blob.labels.find(join(std::vector<std::string>(path.begin() + 1, path.end()), "."));
    return label == blob.labels.end() ? std::nullopt : std::optional(label->second);
  };
}

result<digest> parse(const std::string& text) {
  auto d = digest::parse(text);
  if (!d.ok()) return make_error(errc::invalid_argument, text + ": " + d.error().message);
  return d;
}

template <class Response>
grpc::ServerUnaryReactor* refuse(std::string_view method, Response* response, const error& e) {
  auto call = unary_call<Response>::make(method, response);
  auto* reactor = call.get();
  call->fail(e);
  return reactor;
}

/// One Read under way: a piece is read only when the one before has left.
struct reading : std::enable_shared_from_this<reading> {
  using call_type = stream_call<api::ReadContentResponse>;

  void open(const api::ReadContentRequest& request) {
    auto d = parse(request.digest());
    if (!d.ok()) return call->fail(d.error());
    auto info = blobs->info(*d);
    if (!info.ok()) return call->fail(info.error());
    auto offset = std::max<std::int64_t>(request.offset(), 0);
    if (offset > info->size)
      return call->fail(
          make_error(errc::out_of_range, "read past object length " + std::to_string(info->size) + " bytes"));
    left = info->size - offset;
    if (request.size() > 0) left = std::min(left, request.size());
    auto opened = blobs->read(*d, offset);
    if (!opened.ok()) return call->fail(opened.error());
    source = *std::move(opened);
    next();
  }
  void next() {
    if (left <= 0) return call->succeed();
    api::ReadContentResponse piece;
    auto& data = *piece.mutable_data();
    data.resize(std::min<std::size_t>(cfg::content_read_bytes, static_cast<std::size_t>(left)));
    std::size_t filled = 0;
    while (filled < data.size()) {
      auto n = source->read({data.data() + filled, data.size() - filled});
      if (!n.ok()) return call->fail(n.error());
      if (*n == 0) return call->fail(make_error(errc::data_loss, "blob is shorter than its size"));
      filled += *n;
    }
    piece.set_offset(sent);
    sent += static_cast<std::int64_t>(filled);
    left -= static_cast<std::int64_t>(filled);
    if (!call->send(std::move(piece))) return;  // the client left
    call->on_drained([self = shared_from_this()] {
      if (!self->pool->submit([self] { self->next(); })) self->call->fail(too_many_calls());
    });
  }

  std::shared_ptr<call_type> call;
  store::blob_store* blobs;
  thread_pool* pool;
  std::unique_ptr<store::byte_source> source;
  std::int64_t left = 0;
  std::int64_t sent = 0;
};

}  // namespace

grpc::ServerUnaryReactor* content_service::Info(context*, const api::InfoRequest* request,
                                                api::InfoResponse* response) {
  auto call = unary_call<api::InfoResponse>::make("Content/Info", response);
  bool taken = pool_.submit([this, call, text = request->digest()] {
    auto d = parse(text);
    if (!d.ok()) return call->fail(d.error());
    auto blob = blobs_.info(*d);
    if (!blob.ok()) return call->fail(blob.error());
    api::InfoResponse answer;
    to_proto(*blob, *answer.mutable_info());
    call->succeed(std::move(answer));
  });
  if (!taken) call->fail(too_many_calls());
  return call.get();
}

content_service::writer<api::ReadContentResponse>* content_service::Read(
    context*, const api::ReadContentRequest* request) {
  auto job = std::make_shared<reading>();
  job->call = reading::call_type::make("Content/Read");
  job->blobs = &blobs_;
  job->pool = &pool_;
  auto* reactor = job->call.get();
  if (!pool_.submit([job, request = *request] { job->open(request); })) job->call->fail(too_many_calls());
  return reactor;
}

content_service::writer<api::ListContentResponse>* content_service::List(
    context*, const api::ListContentRequest* request) {
  auto call = stream_call<api::ListContentResponse>::make("Content/List");
  auto* reactor = call.get();
  auto wanted = filter::parse({request->filters().begin(), request->filters().end()});
  if (!wanted.ok()) {
    call->fail(wanted.error());
    return reactor;
  }
  bool taken = pool_.submit([this, call, wanted = *std::move(wanted)] {
    api::ListContentResponse batch;
    for (const auto& blob : blobs_.list()) {
      if (!wanted.matches(fields_of(blob))) continue;
      to_proto(blob, *batch.add_info());
      if (batch.info_size() < static_cast<int>(cfg::content_list_batch)) continue;
      if (!call->send(std::move(batch))) return;
      batch.Clear();
    }
    if (batch.info_size() > 0) call->send(std::move(batch));
    call->succeed();
  });
  if (!taken) call->fail(too_many_calls());
  return reactor;
}

grpc::ServerUnaryReactor* content_service::ListStatuses(context*, const api::ListStatusesRequest*,
                                                        api::ListStatusesResponse* response) {
  auto call = unary_call<api::ListStatusesResponse>::make("Content/ListStatuses", response);
  auto* reactor = call.get();
  call->succeed({});
  return reactor;
}

grpc::ServerUnaryReactor* content_service::Status(context*, const api::StatusRequest* request,
                                                  api::StatusResponse* response) {
  return refuse(
      "Content/Status", response,
      make_error(errc::not_found, "could not get status for ref \"" + request->ref() + "\": not found"));
}

grpc::ServerUnaryReactor* content_service::Update(context*, const api::UpdateRequest*,
                                                  api::UpdateResponse* response) {
  return refuse("Content/Update", response, read_only());
}

grpc::ServerUnaryReactor* content_service::Delete(context*, const api::DeleteContentRequest*,
                                                  google::protobuf::Empty* response) {
  return refuse("Content/Delete", response, read_only());
}

grpc::ServerUnaryReactor* content_service::Abort(context*, const api::AbortRequest*,
                                                 google::protobuf::Empty* response) {
  return refuse("Content/Abort", response, read_only());
}

grpc::ServerBidiReactor<api::WriteContentRequest, api::WriteContentResponse>* content_service::Write(
    context*) {
  class refused final : public grpc::ServerBidiReactor<api::WriteContentRequest, api::WriteContentResponse> {
   public:
    refused() { Finish(to_grpc(read_only())); }
    void OnDone() override { delete this; }
  };
  return new refused;
}

}  // namespace kiln::gateway
