#include "client/session/tunnel.hpp"

#include <chrono>
#include <condition_variable>

#include <sys/socket.h>

#include <grpcpp/server_posix.h>
#include <grpcpp/health_check_service_interface.h>

#include "base/digest.hpp"
#include "base/thread.hpp"
#include "client/connect/dial.hpp"
#include "control.grpc.pb.h"

namespace kiln::client {
namespace {

constexpr std::size_t pump_bytes = 32 * 1024;
constexpr int session_threads_max = 512;
constexpr auto drain_timeout = std::chrono::seconds(3);  // for the daemon to end the stream after we did

using session_stream =
    grpc::ClientReaderWriter<moby::buildkit::v1::BytesMessage, moby::buildkit::v1::BytesMessage>;

}  // namespace

struct session_tunnel::connection {
  grpc::ClientContext context;
  std::unique_ptr<moby::buildkit::v1::Control::Stub> stub;
  std::unique_ptr<session_stream> stream;
  unique_fd socket;
  thread to_daemon;
  thread from_daemon;
  std::mutex mutex;
  std::condition_variable ended_changed;
  bool ended = false;

  void pump_to_daemon() {
    moby::buildkit::v1::BytesMessage message;
    std::string buffer(pump_bytes, '\0');
    for (;;) {
      auto n = ::read(socket.get(), buffer.data(), buffer.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      message.set_data(buffer.data(), static_cast<std::size_t>(n));
      if (!stream->Write(message)) break;
    }
    stream->WritesDone();
  }

  void pump_from_daemon() {
    moby::buildkit::v1::BytesMessage message;
    bool deliver = true;
    // After our side has closed the rest is read and dropped: the daemon ends only when it has been read.
    while (stream->Read(&message))
      if (deliver && !write_all(socket.get(), message.data()).ok()) deliver = false;
    ::shutdown(socket.get(), SHUT_RDWR);
    std::lock_guard lock(mutex);
    ended = true;
    ended_changed.notify_all();
  }
};

std::unique_ptr<grpc::Server> make_session_server(
    const std::vector<std::unique_ptr<session_service>>& services) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(grpc_message_bytes_max);
  builder.SetMaxSendMessageSize(grpc_message_bytes_max);
  builder.AddChannelArgument("grpc.max_metadata_size", 1 << 20);
  // Handlers block on disks and peers; a poller must always be left.
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 4);
  // Whatever the daemon asks for at a time, there is a bound on the threads it takes.
  grpc::ResourceQuota quota("session");
  quota.SetMaxThreads(session_threads_max);
  builder.SetResourceQuota(quota);
  for (const auto& s : services) builder.RegisterService(&s->service());
  return builder.BuildAndStart();
}

void serve_connection(grpc::Server& server, unique_fd socket) {
  ::fcntl(socket.get(), F_SETFL, ::fcntl(socket.get(), F_GETFL) | O_NONBLOCK);
  grpc::AddInsecureChannelFromFd(&server, socket.release());
}

session_tunnel::session_tunnel(std::string shared_key) : id_(new_id()), shared_key_(std::move(shared_key)) {}

session_tunnel::~session_tunnel() { stop(); }

void session_tunnel::add(std::unique_ptr<session_service> service) {
  services_.push_back(std::move(service));
}

std::vector<std::string> session_tunnel::methods() const {
  std::vector<std::string> out{"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"};
  for (const auto& s : services_)
    for (auto& m : s->methods()) out.push_back(std::move(m));
  return out;
}

status session_tunnel::start(const std::shared_ptr<grpc::Channel>& channel) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
    return errno_error(errno, "socketpair");
  unique_fd inner(pair[0]), outer(pair[1]);
  server_ = make_session_server(services_);
  if (!server_) return make_error(errc::internal, "cannot start the session's server");
  serve_connection(*server_, std::move(inner));

  connection_ = std::make_unique<connection>();
  auto& c = *connection_;
  c.socket = std::move(outer);
  c.context.AddMetadata("x-docker-expose-session-uuid", id_);
  c.context.AddMetadata("x-docker-expose-session-sharedkey", shared_key_);
  for (const auto& m : methods()) c.context.AddMetadata("x-docker-expose-session-grpc-method", m);
  c.stub = moby::buildkit::v1::Control::NewStub(channel);
  c.stream = c.stub->Session(&c.context);
  auto up = thread::start("session-up", [&c] { c.pump_to_daemon(); });
  auto down = thread::start("session-down", [&c] { c.pump_from_daemon(); });
  if (!up.ok() || !down.ok()) {
    c.context.TryCancel();
    ::shutdown(c.socket.get(), SHUT_RDWR);
    auto why = up.ok() ? down.error() : up.error();
    if (up.ok()) up->join();
    if (down.ok()) down->join();
    connection_.reset();
    return why;
  }
  c.to_daemon = *std::move(up);
  c.from_daemon = *std::move(down);
  return {};
}

void session_tunnel::stop() {
  if (!connection_) return;
  auto& c = *connection_;
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  // The write pump sees the end of the inner connection and half-closes the stream.
  ::shutdown(c.socket.get(), SHUT_RD);
  c.to_daemon.join();
  {
    std::unique_lock lock(c.mutex);
    if (!c.ended_changed.wait_for(lock, drain_timeout, [&] { return c.ended; })) c.context.TryCancel();
  }
  c.from_daemon.join();
  c.stream->Finish();
  connection_.reset();
  server_.reset();
}

}  // namespace kiln::client
