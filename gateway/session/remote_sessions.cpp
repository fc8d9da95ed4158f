#include "gateway/session/remote_sessions.hpp"

#include <atomic>
#include <set>

#include "base/text.hpp"
#include "configs/peers.hpp"
#include "gateway/transport/generic_call.hpp"
#include "gateway/session/session_registry.hpp"
#include "kiln_peer.grpc.pb.h"
#include "messages/located_id.hpp"
#include "messages/rpc_status.hpp"
#include "rpc_status.pb.h"

namespace kiln::gateway {

namespace cfg = configs::peers;
namespace api = kiln::v1;

namespace {

constexpr std::string_view info_method = "/kiln.v1.Peer/SessionInfo";
constexpr std::string_view call_method = "/kiln.v1.Peer/SessionCall";

/// What a session answered, as opposed to how the way there went.
status status_of(const api::SessionVerdict& verdict) {
  if (verdict.status().empty()) return {};
  google::rpc::Status proto;
  if (!proto.ParseFromString(verdict.status())) return make_error(errc::internal, "an unreadable verdict");
  return from_rpc_status(proto);
}

/// A stream of frames as the stream of messages in them.
class relayed_stream final : public message_stream {
 public:
  relayed_stream(const std::shared_ptr<peer>& p, const api::SessionFrame& open, std::stop_token stop)
      : peer_(p),
        stop_(std::move(stop), p->gone.get_token()),
        frames_(generic_stream(p->channel, call_method, {}, stop_.token())) {
    frames_->write(open.SerializeAsString());
  }

  bool write(std::string_view message) override {
    api::SessionFrame frame;
    frame.set_message(message.data(), message.size());
    return frames_->write(frame.SerializeAsString());
  }
  void writes_done() override {
    if (writes_ended_.exchange(true)) return;
    api::SessionFrame frame;
    frame.set_half_close(true);
    frames_->write(frame.SerializeAsString());
    frames_->writes_done();
  }
  bool read(std::string& message) override {
    if (ended_) return false;
    if (!frames_->read(bytes_) || !frame_.ParseFromString(bytes_)) {
      ended_ = true;
      return false;
    }
    if (frame_.kind_case() == api::SessionFrame::kMessage) {
      message = std::move(*frame_.mutable_message());
      return true;
    }
    if (frame_.has_verdict()) verdict_ = status_of(frame_.verdict());
    ended_ = true;
    return false;
  }
  status finish() override {
    writes_done();
    std::string ignored;
    while (read(ignored)) continue;
    auto way = frames_->finish();
    if (verdict_) return *verdict_;
    if (!way.ok()) return std::move(way).error().with_context("session through node " + peer_->node);
    return make_error(errc::unavailable, "node " + peer_->node + " ended a session call without a verdict");
  }

 private:
  std::shared_ptr<peer> peer_;
  any_stop stop_;
  std::unique_ptr<message_stream> frames_;
  std::string bytes_;
  api::SessionFrame frame_;
  std::optional<status> verdict_;
  bool ended_ = false;
  std::atomic<bool> writes_ended_{false};
};

class remote_session final : public session_caller {
 public:
  remote_session(std::string id, std::string there, std::shared_ptr<peer> p,
                 const api::SessionInfoResponse& info)
      : id_(std::move(id)), there_(std::move(there)), peer_(std::move(p)), shared_key_(info.shared_key()) {
    for (const auto& method : info.methods()) {
      methods_.push_back(method);
      served_.insert(to_lower(method));
    }
  }

  const std::string& id() const override { return id_; }
  const std::string& shared_key() const override { return shared_key_; }
  bool supports(std::string_view method) const override { return served_.contains(to_lower(method)); }
  std::vector<std::string> methods() const override { return methods_; }

  result<std::string> call(std::string_view method, std::string_view request, const call_metadata& metadata,
                           std::chrono::milliseconds timeout, std::stop_token stop) override {
    KILN_CHECK(wanted(stop));
    auto frame = opening(method, metadata);
    frame.mutable_open()->set_unary(true);
    frame.mutable_open()->set_request(request.data(), request.size());
    frame.mutable_open()->set_timeout_ms(timeout.count());
    relayed_stream stream(peer_, frame, stop);
    stream.writes_done();
    std::string answer;
    bool answered = stream.read(answer);
    if (auto verdict = stream.finish(); !verdict.ok()) {
      if (stop.stop_requested()) return make_error(errc::cancelled, "context canceled");
      return std::move(verdict).error();
    }
    if (!answered) return make_error(errc::internal, "node " + peer_->node + " passed no answer on");
    return answer;
  }
  result<std::unique_ptr<message_stream>> open(std::string_view method, const call_metadata& metadata,
                                               std::stop_token stop) override {
    KILN_CHECK(wanted(stop));
    return std::unique_ptr<message_stream>(
        std::make_unique<relayed_stream>(peer_, opening(method, metadata), std::move(stop)));
  }

 private:
  status wanted(const std::stop_token& stop) const {
    if (stop.stop_requested()) return make_error(errc::cancelled, "context canceled");
    if (peer_->gone.stop_requested())
      return make_error(errc::unavailable, "session " + there_ + " is gone with node " + peer_->node);
    return {};
  }
  api::SessionFrame opening(std::string_view method, const call_metadata& metadata) const {
    api::SessionFrame out;
    auto& open = *out.mutable_open();
    open.set_session(there_);
    open.set_method(method.data(), method.size());
    for (const auto& [key, value] : metadata) {
      auto& header = *open.add_metadata();
      header.set_key(key);
      header.set_value(value);
    }
    return out;
  }

  const std::string id_, there_;
  const std::shared_ptr<peer> peer_;
  const std::string shared_key_;
  std::vector<std::string> methods_;
  std::set<std::string> served_;  // lower case
};

}  // namespace

result<std::shared_ptr<session_caller>> remote_sessions::find(std::string_view id,
                                                              std::chrono::milliseconds wait,
                                                              std::stop_token stop) {
  auto where = located_id::parse(strip_session_prefix(id));
  if (where.node.empty()) return local_.find(id, wait, std::move(stop));
  if (where.node == peers_->self()) return local_.find(where.id, wait, std::move(stop));
  auto p = peers_->find(where.node);
  auto unreachable = [&](const std::string& why) {
    return make_error(errc::unavailable,
                      "session " + where.id + " cannot be reached through node " + where.node + ": " + why);
  };
  if (!p) return unreachable("it is not in the cluster");
  api::SessionInfoRequest request;
  request.set_id(where.id);
  request.set_wait_ms(wait.count());
  any_stop ended(stop, p->gone.get_token());
  auto answer = generic_unary(p->channel, info_method, request.SerializeAsString(), {},
                              wait + cfg::session_grace, ended.token());
  if (!answer.ok()) {
    if (stop.stop_requested()) return make_error(errc::cancelled, "context canceled");
    if (answer.error().code == errc::not_found) return std::move(answer).error();
    return unreachable(answer.error().message);
  }
  api::SessionInfoResponse info;
  if (!info.ParseFromString(*answer)) return unreachable("its answer is unreadable");
  return std::shared_ptr<session_caller>(
      std::make_shared<remote_session>(where.text(), where.id, std::move(p), info));
}

}  // namespace kiln::gateway
