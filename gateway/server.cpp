#include "gateway/server.hpp"

#include <grpcpp/grpcpp.h>
#include <grpcpp/server_posix.h>
#include <spdlog/spdlog.h>

#include <mutex>
#include <set>

#include "actors/session/session.hpp"
#include "actors/spawn_outside.hpp"
#include "configs/calls.hpp"
#include "configs/certificates.hpp"
#include "gateway/bridge/bridge_service.hpp"
#include "gateway/transport/call_gate.hpp"
#include "gateway/peer/cluster_service.hpp"
#include "gateway/control/content_service.hpp"
#include "gateway/control/control_service.hpp"
#include "gateway/control/health_service.hpp"
#include "gateway/control/reflection_service.hpp"
#include "gateway/services.hpp"
#include "gateway/control/trace_service.hpp"
#include "gateway/session/tunnel_pump.hpp"

namespace kiln::gateway {

namespace {

namespace cfg = configs::gateway;

result<std::shared_ptr<grpc::ServerCredentials>> credentials(const tls_files& files) {
  if (files.cert.empty() && files.key.empty() && files.ca.empty()) return grpc::InsecureServerCredentials();
  if (files.cert.empty() || files.key.empty())
    return make_error(errc::invalid_argument, "you must specify key and cert file if one is specified");
  grpc::SslServerCredentialsOptions options;
  KILN_TRY(auto cert, configs::read_pem("tls certificate", files.cert));
  KILN_TRY(auto key, configs::read_pem("tls key", files.key));
  options.pem_key_cert_pairs.push_back({std::move(key), std::move(cert)});
  if (!files.ca.empty()) {
    KILN_TRY(options.pem_root_certs, configs::read_pem("tls ca", files.ca));
    options.client_certificate_request = GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
  }
  return grpc::SslServerCredentials(options);
}

class listeners_impl final : public listeners {
 public:
  static result<std::shared_ptr<listeners>> open(const server_options& options) {
    if (options.addresses.empty()) return make_error(errc::invalid_argument, "no listen addresses given");
    auto out = std::make_shared<listeners_impl>();
    bool tls = !options.tls.cert.empty() || !options.tls.key.empty() || !options.tls.ca.empty();
    KILN_TRY(out->secure_, credentials(options.tls));
    for (const auto& text : options.addresses) {
      KILN_TRY(auto address, parse_listen_address(text));
      KILN_TRY(auto opened, listening_socket::open(address, options.owner));
      for (auto& socket : opened) {
        if (tls && !socket.tcp()) spdlog::warn("TLS is disabled for {}", socket.address());
        if (!tls && socket.tcp())
          spdlog::warn("TLS is not enabled for {}: enabling mutual TLS authentication is highly recommended",
                       socket.address());
        out->addresses_.push_back(socket.address());
        out->sockets_.push_back(std::move(socket));
      }
    }
    return std::shared_ptr<listeners>(std::move(out));
  }

  std::vector<std::string> addresses() const override { return addresses_; }
  void close() override {
    std::lock_guard lock(mutex_);
    sockets_.clear();
  }
  result<std::vector<listening_socket>> sockets() const {
    std::lock_guard lock(mutex_);
    std::vector<listening_socket> out;
    for (const auto& socket : sockets_) {
      KILN_TRY(auto same, socket.share());
      out.push_back(std::move(same));
    }
    return out;
  }
  const std::shared_ptr<grpc::ServerCredentials>& secure() const { return secure_; }

 private:
  std::shared_ptr<grpc::ServerCredentials> secure_;
  std::vector<std::string> addresses_;
  mutable std::mutex mutex_;
  std::vector<listening_socket> sockets_;  // mutex_
};

/// Every service of the main listener, by full name.
std::vector<std::string> service_names(bool content) {
  std::vector<std::string> names{"moby.buildkit.v1.Control",
                                 "moby.buildkit.v1.frontend.LLBBridge",
                                 "grpc.health.v1.Health",
                                 "grpc.reflection.v1.ServerReflection",
                                 "grpc.reflection.v1alpha.ServerReflection",
                                 "opentelemetry.proto.collector.trace.v1.TraceService",
                                 "kiln.v1.Cluster"};
  if (content) names.push_back("containerd.services.content.v1.Content");
  return names;
}

std::set<std::string> as_set(const std::vector<std::string>& names) { return {names.begin(), names.end()}; }

class server_impl final : public server {
 public:
  explicit server_impl(const services& s)
      : services_(s),
        control_(services_, pump_, solves_),
        bridge_(*services_.system, services_.builds, services_.containers),
        cluster_(services_),
        health_(as_set(service_names(services_.blobs))),
        reflection_(service_names(services_.blobs)),
        reflection_alpha_(service_names(services_.blobs)) {
    if (!services_.sessions) services_.sessions = std::make_shared<session_registry>();
    if (!services_.spawn_session)
      services_.spawn_session = [system = services_.system](session_options options) {
        return actors::spawn_outside(*system, session, std::move(options));
      };
    if (services_.blobs) content_ = std::make_unique<content_service>(*services_.blobs, pool_);
  }
  ~server_impl() override { shutdown(); }

  /// `own`: the listeners are this server's alone.
  status open(std::shared_ptr<listeners> on, bool own) {
    on_ = std::static_pointer_cast<listeners_impl>(std::move(on));
    own_ = own;
    KILN_TRY(auto sockets, on_->sockets());
    grpc::ServerBuilder builder;
    builder.SetMaxReceiveMessageSize(cfg::message_bytes_max);
    builder.SetMaxSendMessageSize(cfg::message_bytes_max);
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, cfg::metadata_bytes_max);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, cfg::streams_per_connection_max);
    builder.RegisterService(&control_);
    builder.RegisterService(&bridge_);
    builder.RegisterService(&cluster_);
    builder.RegisterService(&health_);
    builder.RegisterService(&reflection_);
    builder.RegisterService(&reflection_alpha_);
    builder.RegisterService(&traces_);
    if (content_) builder.RegisterService(content_.get());
    using type = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
    local_ = builder.experimental().AddExternalConnectionAcceptor(type::FROM_FD,
                                                                  grpc::InsecureServerCredentials());
    remote_ = builder.experimental().AddExternalConnectionAcceptor(type::FROM_FD, on_->secure());
    grpc_ = builder.BuildAndStart();
    if (!grpc_) return make_error(errc::internal, "the gRPC server did not start");
    acceptor_ = std::make_unique<acceptor>(std::move(sockets), [this](int fd, bool tcp) {
      grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
      connection.fd = fd;
      (tcp ? remote_ : local_)->HandleNewConnection(&connection);
    });
    return {};
  }

  std::vector<std::string> addresses() const override { return on_->addresses(); }

  bool drain(std::chrono::milliseconds grace) override {
    on_->close();
    acceptor_->stop();
    waited_for_builds_ |= solves_.inside() > 0;
    return solves_.close(grace);
  }

  void shutdown() override {
    if (!grpc_) return;
    if (own_) on_->close();
    if (acceptor_) acceptor_->stop();
    bool ended = solves_.close(std::chrono::milliseconds{0});
    // Past the deadline gRPC cancels every call; each reactor answers its OnCancel with Finish. Clients whose
    // builds were waited for still have to hear of it.
    grpc_->Shutdown(std::chrono::system_clock::now() +
                    (ended && waited_for_builds_ ? cfg::last_calls : std::chrono::milliseconds{0}));
    grpc_->Wait();
    grpc_.reset();
  }

 private:
  services services_;
  std::shared_ptr<listeners_impl> on_;
  bool own_ = false;
  tunnel_pump pump_;
  call_gate solves_;
  control_service control_;
  bridge_service bridge_;
  cluster_service cluster_;
  health_service health_;
  reflection_service reflection_;
  reflection_alpha_service reflection_alpha_;
  trace_service traces_;
  std::unique_ptr<content_service> content_;
  thread_pool pool_{"gateway", cfg::blocking_threads,
                    configs::waiting_calls_max};  // destroyed before what its last jobs use
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> local_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> remote_;
  std::unique_ptr<grpc::Server> grpc_;
  std::unique_ptr<acceptor> acceptor_;
  bool waited_for_builds_ = false;
};

}  // namespace

result<std::shared_ptr<listeners>> listeners::open(const server_options& options) {
  return listeners_impl::open(options);
}

namespace {

result<std::unique_ptr<server>> serve(std::shared_ptr<listeners> on, bool own, const services& s) {
  // gRPC's own shutdown, when its last object goes, can wait 10 s for a poller of its own: keep it alive.
  [[maybe_unused]] static const bool initialized = (grpc_init(), true);
  auto out = std::make_unique<server_impl>(s);
  KILN_CHECK(out->open(std::move(on), own));
  return std::unique_ptr<server>(std::move(out));
}

}  // namespace

result<std::unique_ptr<server>> server::start(std::shared_ptr<listeners> on, const services& s) {
  return serve(std::move(on), false, s);
}

result<std::unique_ptr<server>> server::start(const server_options& options, const services& s) {
  KILN_TRY(auto on, listeners::open(options));
  return serve(std::move(on), true, s);
}

}  // namespace kiln::gateway
