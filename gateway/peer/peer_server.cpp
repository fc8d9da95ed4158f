#include "gateway/peer/peer_server.hpp"

#include <grpcpp/grpcpp.h>
#include <grpcpp/server_posix.h>

#include "configs/calls.hpp"
#include "configs/peers.hpp"
#include "gateway/control/content_service.hpp"
#include "gateway/transport/listener.hpp"
#include "gateway/peer/peer_service.hpp"

namespace kiln::gateway {

namespace cfg = configs::peers;

namespace {

/// A blob store whose reads are counted; nothing can be written through it.
class counted_blobs final : public store::blob_store {
 public:
  counted_blobs(store::blob_store& inner, std::shared_ptr<peer_traffic> traffic)
      : inner_(inner), traffic_(std::move(traffic)) {}

  bool has(const digest& d) const override { return inner_.has(d); }
  result<store::blob_info> info(const digest& d) const override { return inner_.info(d); }
  std::filesystem::path path_of(const digest& d) const override { return inner_.path_of(d); }
  result<std::unique_ptr<store::byte_source>> read(const digest& d, std::int64_t offset) const override {
    KILN_TRY(auto source, inner_.read(d, offset));
    return std::unique_ptr<store::byte_source>(std::make_unique<counted_source>(std::move(source), traffic_));
  }
  result<std::string> read_all(const digest& d, std::int64_t limit) const override {
    return inner_.read_all(d, limit);
  }
  std::vector<store::blob_info> list() const override { return inner_.list(); }

 private:
  class counted_source final : public store::byte_source {
   public:
    counted_source(std::unique_ptr<store::byte_source> inner, std::shared_ptr<peer_traffic> traffic)
        : inner_(std::move(inner)), traffic_(std::move(traffic)) {}
    result<std::size_t> read(std::span<char> buffer) override {
      auto n = inner_->read(buffer);
      if (n.ok() && traffic_) traffic_->out += static_cast<std::int64_t>(*n);
      return n;
    }

   private:
    std::unique_ptr<store::byte_source> inner_;
    std::shared_ptr<peer_traffic> traffic_;
  };

  store::blob_store& inner_;
  std::shared_ptr<peer_traffic> traffic_;
};

class peer_server_impl final : public peer_server {
 public:
  explicit peer_server_impl(const peer_server_parts& parts)
      : access_(parts.access ? parts.access : std::make_shared<session_grants>()),
        blobs_(parts.refs->blobs(), parts.traffic),
        content_(blobs_, reading_),
        peers_(*parts.refs, *parts.sessions, *access_, describing_, calls_) {}
  ~peer_server_impl() override { shutdown(); }

  status open(const peer_server_options& options) {
    KILN_TRY(auto texts, read_node_tls(options.tls));
    grpc::SslServerCredentialsOptions ssl;
    ssl.pem_key_cert_pairs.push_back({std::move(texts.key), std::move(texts.cert)});
    ssl.pem_root_certs = std::move(texts.ca);
    ssl.client_certificate_request = GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
    KILN_TRY(auto sockets, listening_socket::open({listen_address::kind::tcp, options.address}, {}));
    auto ms = [](std::chrono::milliseconds t) { return static_cast<int>(t.count()); };
    grpc::ServerBuilder builder;
    builder.SetMaxReceiveMessageSize(cfg::message_bytes_max);
    builder.SetMaxSendMessageSize(cfg::message_bytes_max);
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, configs::gateway::metadata_bytes_max);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, ms(cfg::keepalive_time));
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, ms(cfg::keepalive_timeout));
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                               ms(cfg::keepalive_time) / 2);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, cfg::streams_max);
    builder.RegisterService(&content_);
    builder.RegisterService(&peers_);
    using type = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
    connections_ =
        builder.experimental().AddExternalConnectionAcceptor(type::FROM_FD, grpc::SslServerCredentials(ssl));
    grpc_ = builder.BuildAndStart();
    if (!grpc_) return make_error(errc::internal, "the gRPC server for peers did not start");
    acceptor_ = std::make_unique<acceptor>(std::move(sockets), [this](int fd, bool) {
      grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
      connection.fd = fd;
      connections_->HandleNewConnection(&connection);
    });
    return {};
  }

  std::string address() const override { return acceptor_->addresses().front().substr(6); }  // without tcp://

  void shutdown() override {
    if (!grpc_) return;
    if (acceptor_) acceptor_->stop();
    grpc_->Shutdown(std::chrono::system_clock::now());
    grpc_->Wait();
    grpc_.reset();
  }

 private:
  const std::shared_ptr<const session_access> access_;
  counted_blobs blobs_;
  content_service content_;
  peer_service peers_;
  // Destroyed, so joined, before what their last jobs use.
  thread_pool reading_{"peer-read", cfg::read_threads, configs::waiting_calls_max};
  thread_pool describing_{"peer-describe", cfg::describe_threads, configs::waiting_calls_max};
  thread_pool calls_{"peer-session", cfg::session_calls_max, 0};
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> connections_;
  std::unique_ptr<grpc::Server> grpc_;
  std::unique_ptr<acceptor> acceptor_;
};

}  // namespace

result<std::unique_ptr<peer_server>> peer_server::start(const peer_server_options& options,
                                                        const peer_server_parts& parts) {
  [[maybe_unused]] static const bool initialized = (grpc_init(), true);
  auto out = std::make_unique<peer_server_impl>(parts);
  KILN_CHECK(out->open(options));
  return std::unique_ptr<peer_server>(std::move(out));
}

}  // namespace kiln::gateway
