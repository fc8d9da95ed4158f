#include "gateway/session/session_tunnel.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <grpcpp/create_channel_posix.h>
#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <charconv>
#include <mutex>
#include <vector>

#include "configs/gateway.hpp"
#include "gateway/transport/generic_call.hpp"
#include "gateway/session/session_caller.hpp"
#include "gateway/control/status_convert.hpp"
#include "health.pb.h"

namespace kiln::gateway {

namespace {

namespace cfg = configs::gateway;

constexpr auto header_id = "x-docker-expose-session-uuid";
constexpr auto header_shared_key = "x-docker-expose-session-sharedkey";
constexpr auto header_method = "x-docker-expose-session-grpc-method";
constexpr auto header_health = "x-buildkit-session-health-custom-timeout";
constexpr auto health_method = "/grpc.health.v1.Health/Check";

class session_tunnel final : public session_reactor,
                             public readiness_listener,
                             public session_link,
                             public std::enable_shared_from_this<session_tunnel> {
 public:
  session_tunnel(tunnel_pump& pump, std::shared_ptr<session_registry> registry)
      : pump_(pump), registry_(std::move(registry)) {}

  /// Joins the call to a channel. On failure the call is finished and nothing remains.
  void start(session_identity identity, session_options options, const session_spawner& spawn) {
    self_ = shared_from_this();
    id_ = identity.id;
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0)
      return end(errno_error(errno, "session tunnel"));
    fd_ = ends[0];
    grpc::ChannelArguments args;
    args.SetMaxReceiveMessageSize(cfg::message_bytes_max);
    args.SetMaxSendMessageSize(cfg::message_bytes_max);
    args.SetInt(GRPC_ARG_MAX_METADATA_SIZE, cfg::metadata_bytes_max);
    args.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
    auto channel = grpc::CreateCustomInsecureChannelFromFd("localhost", ends[1], args);
    caller_ = std::make_shared<channel_session_caller>(std::move(identity), std::move(channel));
    if (!pump_.add(fd_, self_)) return end(errno_error(errno, "session tunnel"));
    if (auto added = registry_->add(caller_); !added.ok()) return end(std::move(added).error());
    options.link = self_;
    auto actor = spawn(std::move(options));
    std::lock_guard lock(mutex_);
    if (finished_) {  // closed before it began
      caf::anon_send(actor, ended_atom::value);
      return;
    }
    actor_ = std::move(actor);
    StartRead(&in_);
    arm(EPOLLIN);
    spdlog::debug("session {} connected", id_);
  }

  // session_link
  const std::string& id() const override { return id_; }
  void check_health(std::chrono::milliseconds timeout, std::function<void(status)> answer) override {
    std::shared_ptr<grpc::Channel> channel;
    {
      std::lock_guard lock(mutex_);
      if (!finished_) channel = caller_->channel();
    }
    if (!channel) return answer(make_error(errc::unavailable, "session " + id_ + " is closed"));
    generic_unary_async(channel, health_method, grpc::health::v1::HealthCheckRequest().SerializeAsString(),
                        timeout, [answer = std::move(answer)](result<std::string> r) {
                          answer(r.ok() ? status{} : status(std::move(r).error()));
                        });
  }
  void close(error why) override { end(std::move(why)); }

  // readiness_listener
  void on_ready(std::uint32_t events) override {
    if (events & EPOLLOUT) flush();
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) fill();
    // One report disarms the socket for both directions; the one that was not meant still waits.
    std::lock_guard lock(mutex_);
    if (!finished_ && waiting_ != 0) pump_.arm(fd_, waiting_);
  }

 private:
  // Client to socket.
  void OnReadDone(bool ok) override {
    if (!ok) return end({});  // half-closed or gone: a client closing its session waits for our end
    {
      std::lock_guard lock(mutex_);
      written_ = 0;
      sending_ = true;
    }
    flush();
  }

  void flush() {
    std::unique_lock lock(mutex_);
    // The socket may be reported writable once more than we asked, after the last piece went and while the
    // next is still being read.
    if (finished_ || !sending_) return;
    waiting_ &= ~static_cast<std::uint32_t>(EPOLLOUT);
    const auto& data = in_.data();
    while (written_ < data.size()) {
      auto n = ::send(fd_, data.data() + written_, data.size() - written_, MSG_NOSIGNAL);
      if (n >= 0) {
        written_ += static_cast<std::size_t>(n);
      } else if (errno == EAGAIN) {
        return arm(EPOLLOUT);
      } else if (errno != EINTR) {
        lock.unlock();
        return end({});  // the inner connection ended
      }
    }
    sending_ = false;
    StartRead(&in_);
  }

  // Socket to client. Not read again before the last piece has left.
  void fill() {
    std::unique_lock lock(mutex_);
    if (finished_ || writing_) return;
    waiting_ &= ~static_cast<std::uint32_t>(EPOLLIN);
    auto& data = *out_.mutable_data();
    data.resize(cfg::tunnel_read_bytes);
    ssize_t n;
    do {
      n = ::recv(fd_, data.data(), data.size(), 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) return arm(EPOLLIN);
    if (n <= 0) {
      lock.unlock();
      return end({});
    }
    data.resize(static_cast<std::size_t>(n));
    writing_ = true;
    StartWrite(&out_);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return end({});
    std::lock_guard lock(mutex_);
    writing_ = false;
    if (!finished_) arm(EPOLLIN);
  }

  void OnCancel() override { end(make_error(errc::cancelled, "context canceled")); }
  void OnDone() override { self_.reset(); }

  void arm(std::uint32_t events) {  // with mutex_ held
    waiting_ |= events;
    pump_.arm(fd_, waiting_);
  }

  /// Exactly once: takes the session out of the world, then finishes the call.
  void end(std::optional<error> why) {
    session_actor actor;
    int fd;
    {
      std::lock_guard lock(mutex_);
      if (finished_) return;
      finished_ = true;
      fd = std::exchange(fd_, -1);
      std::swap(actor, actor_);
    }
    if (caller_) {
      caller_->close();
      registry_->remove(*caller_);
    }
    if (fd >= 0) {
      pump_.remove(fd);
      ::close(fd);
    }
    if (actor) caf::anon_send(actor, ended_atom::value);
    spdlog::debug("session {} ended{}{}", id_, why ? ": " : "", why ? why->message : "");
    Finish(why ? to_grpc(*why) : grpc::Status::OK);
  }

  tunnel_pump& pump_;
  std::shared_ptr<session_registry> registry_;
  std::shared_ptr<channel_session_caller> caller_;
  std::shared_ptr<session_tunnel> self_;
  std::string id_;

  std::mutex mutex_;
  session_actor actor_;
  ctl::BytesMessage in_;
  ctl::BytesMessage out_;
  std::size_t written_ = 0;
  std::uint32_t waiting_ = 0;
  int fd_ = -1;
  bool sending_ = false;  // in_ holds what the socket has not taken yet
  bool writing_ = false;
  bool finished_ = false;
};

std::string first_header(const grpc::CallbackServerContext& context, const char* name) {
  auto it = context.client_metadata().find(name);
  return it == context.client_metadata().end() ? std::string{}
                                               : std::string(it->second.data(), it->second.size());
}

session_options health_options(const std::string& custom) {
  session_options options{nullptr, cfg::health_interval, cfg::health_timeout, cfg::health_failures_max};
  int ms = 0;
  auto [end, err] = std::from_chars(custom.data(), custom.data() + custom.size(), ms);
  if (err == std::errc{} && end == custom.data() + custom.size() && ms > 0) {
    options.interval = options.timeout = std::max(std::chrono::milliseconds(ms), cfg::health_custom_min);
    options.failures_max = 1;
  }
  return options;
}

}  // namespace

session_reactor* open_session_tunnel(grpc::CallbackServerContext* context, tunnel_pump& pump,
                                     std::shared_ptr<session_registry> registry,
                                     const session_spawner& spawn) {
  class refused final : public session_reactor {
   public:
    explicit refused(grpc::Status why) { Finish(std::move(why)); }
    void OnDone() override { delete this; }
  };
  session_identity identity;
  identity.id = first_header(*context, header_id);
  identity.shared_key = first_header(*context, header_shared_key);
  auto [from, to] = context->client_metadata().equal_range(header_method);
  for (auto it = from; it != to; ++it) identity.methods.emplace_back(it->second.data(), it->second.size());
  if (identity.id.empty())
    return new refused(
        {grpc::StatusCode::INVALID_ARGUMENT, std::string("session: header ") + header_id + " is missing"});
  auto options = health_options(first_header(*context, header_health));
  auto tunnel = std::make_shared<session_tunnel>(pump, std::move(registry));
  tunnel->start(std::move(identity), std::move(options), spawn);
  return tunnel.get();
}

}  // namespace kiln::gateway
