#include "gateway/peer/peer_client.hpp"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_certificate_verifier.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <spdlog/spdlog.h>

#include "configs/certificates.hpp"
#include "configs/node_names.hpp"
#include "configs/peers.hpp"

namespace kiln::gateway {

namespace cfg = configs::peers;

namespace {

result<std::string> read_pem(const std::string& path, std::string_view what) {
  if (path.empty())
    return make_error(errc::invalid_argument, "cluster tls: no " + std::string(what) + " is given");
  return configs::read_pem("cluster tls " + std::string(what), path);
}

}  // namespace

result<tls_texts> read_node_tls(const tls_files& files) {
  tls_texts out;
  KILN_TRY(out.cert, read_pem(files.cert, "certificate"));
  KILN_TRY(out.key, read_pem(files.key, "key"));
  KILN_TRY(out.ca, read_pem(files.ca, "authority"));
  return out;
}

namespace {

namespace tls_api = grpc::experimental;

/// Lets a server pass whose certificate is for that node.
class node_verifier final : public tls_api::ExternalCertificateVerifier {
 public:
  explicit node_verifier(std::string node) : node_(std::move(node)) {}
  bool Verify(tls_api::TlsCustomVerificationCheckRequest* request, std::function<void(grpc::Status)>,
              grpc::Status* verdict) override {
    std::vector<std::string> names;
    for (const auto& name : request->dns_names()) names.emplace_back(name.data(), name.size());
    auto why = configs::misnamed(names, node_);
    if (!why.empty()) {
      spdlog::warn("cluster: the certificate of the peer service where node {} should be {}", node_, why);
      *verdict = grpc::Status(grpc::StatusCode::UNAUTHENTICATED, "its certificate " + why);
    }
    return true;
  }
  void Cancel(tls_api::TlsCustomVerificationCheckRequest*) override {}

 private:
  const std::string node_;
};

std::shared_ptr<grpc::ChannelCredentials> credentials_for(const std::string& node, const tls_texts& texts) {
  auto provider = std::make_shared<tls_api::StaticDataCertificateProvider>(
      texts.ca, std::vector<tls_api::IdentityKeyCertPair>{{texts.key, texts.cert}});
  tls_api::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(provider);
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  options.set_verify_server_certs(true);
  // Nodes are dialled by whatever address they tell; what counts is that the cluster's authority knows them
  // by name.
  options.set_check_call_host(false);
  options.set_certificate_verifier(tls_api::ExternalCertificateVerifier::Create<node_verifier>(node));
  return tls_api::TlsCredentials(options);
}

}  // namespace

result<std::shared_ptr<peer_directory>> peer_directory::make(std::string self, const tls_files& tls) {
  KILN_TRY(auto texts, read_node_tls(tls));
  if (!credentials_for(self, texts))
    return make_error(errc::invalid_argument, "cluster tls: the certificates cannot be used");
  return std::shared_ptr<peer_directory>(new peer_directory(std::move(self), std::move(texts)));
}

void peer_directory::put(const std::string& node, const std::string& address) {
  std::shared_ptr<peer> before;
  {
    std::lock_guard lock(mutex_);
    auto& slot = peers_[node];
    if (slot && slot->address == address) return;
    auto fresh = std::make_shared<peer>();
    fresh->node = node;
    fresh->address = address;
    grpc::ChannelArguments args;
    auto ms = [](std::chrono::milliseconds t) { return static_cast<int>(t.count()); };
    args.SetMaxReceiveMessageSize(cfg::message_bytes_max);
    args.SetMaxSendMessageSize(cfg::message_bytes_max);
    args.SetInt(GRPC_ARG_MAX_METADATA_SIZE, configs::gateway::metadata_bytes_max);
    args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, ms(cfg::keepalive_time));
    args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, ms(cfg::keepalive_timeout));
    args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, ms(cfg::reconnect_first));
    args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, ms(cfg::connect_timeout));
    args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, ms(cfg::reconnect_max));
    args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    fresh->channel = grpc::CreateCustomChannel(address, credentials_for(node, tls_), args);
    before = std::exchange(slot, std::move(fresh));
    left_.erase(node);
  }
  changed_.notify_all();
  if (before) before->gone.request_stop();
}

void peer_directory::erase(const std::string& node) {
  std::shared_ptr<peer> before;
  {
    std::lock_guard lock(mutex_);
    auto found = peers_.find(node);
    if (found == peers_.end()) return;
    before = std::move(found->second);
    peers_.erase(found);
    if (left_.size() >= cfg::left_nodes_max) left_.clear();
    left_.insert(node);
  }
  changed_.notify_all();
  before->gone.request_stop();
}

std::shared_ptr<peer> peer_directory::find(std::string_view node) const {
  std::lock_guard lock(mutex_);
  auto found = peers_.find(node);
  return found == peers_.end() ? nullptr : found->second;
}

std::shared_ptr<peer> peer_directory::await(std::string_view node, std::chrono::milliseconds time,
                                            const std::stop_token& stop) const {
  std::unique_lock lock(mutex_);
  std::shared_ptr<peer> out;
  changed_.wait_for(lock, stop, time, [&] {
    if (auto found = peers_.find(node); found != peers_.end()) out = found->second;
    return out || left_.contains(node);
  });
  return out;
}

}  // namespace kiln::gateway
