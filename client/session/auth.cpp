#include "client/session/auth.hpp"

#include <chrono>
#include <cstdlib>
#include <mutex>
#include <set>

#include <fmt/format.h>

#include "auth.grpc.pb.h"
#include "base/digest.hpp"
#include "base/numbers.hpp"
#include "client/connect/dial.hpp"
#include "client/progress/display.hpp"
#include "client/session/token_seed.hpp"

namespace kiln::client {
namespace {

namespace proto = moby::filesync::v1;

// Source: buildkit authprovider: helpers hand out tokens that live for five minutes.
constexpr auto credentials_age_max = std::chrono::minutes(4) + std::chrono::seconds(50);

bool tokens_disabled() {
  const char* value = std::getenv("BUILDKIT_NO_CLIENT_TOKEN");
  return value && parse_bool(value).value_or(false);
}

class auth_service : public session_service, public proto::Auth::Service {
 public:
  explicit auth_service(auth_options options) : options_(std::move(options)) {}

  grpc::Service& service() override { return *this; }
  std::vector<std::string> methods() const override {
    return {"/moby.filesync.v1.Auth/Credentials", "/moby.filesync.v1.Auth/FetchToken",
            "/moby.filesync.v1.Auth/GetTokenAuthority", "/moby.filesync.v1.Auth/VerifyTokenAuthority"};
  }

  grpc::Status Credentials(grpc::ServerContext*, const proto::CredentialsRequest* request,
                           proto::CredentialsResponse* response) override {
    auto found = credentials(request->host());
    if (!found.ok()) return to_grpc(found.error());
    response->set_username(found->identity_token.empty() ? found->username : "");
    response->set_secret(secret_of(*found));
    if (!response->secret().empty()) show(fmt::format("[auth] sharing credentials for {}", request->host()));
    return grpc::Status::OK;
  }

  grpc::Status FetchToken(grpc::ServerContext*, const proto::FetchTokenRequest* request,
                          proto::FetchTokenResponse* response) override {
    auto found = credentials(request->host());
    if (!found.ok()) return to_grpc(found.error());
    if (!found->registry_token.empty()) {
      response->set_token(found->registry_token);
      response->set_expiresin(fetched_token{}.expires_seconds);
      return grpc::Status::OK;
    }
    token_request wanted{.realm = request->realm(),
                         .service = request->service(),
                         .scopes = {request->scopes().begin(), request->scopes().end()},
                         .username = found->identity_token.empty() ? found->username : "",
                         .secret = secret_of(*found)};
    auto tls = options_.tls.find(request->host());
    std::string scopes;
    for (std::string_view scope : wanted.scopes) {
      if (scope.starts_with("repository:")) scope.remove_prefix(11);
      scopes += (scopes.empty() ? "" : " ") + std::string(scope);
    }
    auto started = wall_clock();
    auto token = fetch_token(wanted, tls == options_.tls.end() ? auth_tls{} : tls->second);
    if (!wanted.secret.empty())
      show(fmt::format("[auth] {} token for {}", scopes, request->host()), started,
           token.ok() ? "" : token.error().message);
    if (!token.ok()) return to_grpc(token.error());
    response->set_token(token->token);
    response->set_expiresin(token->expires_seconds);
    response->set_issuedat(token->issued_at_seconds);
    return grpc::Status::OK;
  }

  grpc::Status GetTokenAuthority(grpc::ServerContext*, const proto::GetTokenAuthorityRequest* request,
                                 proto::GetTokenAuthorityResponse* response) override {
    auto key = key_for(request->host(), request->salt());
    if (!key.ok()) return to_grpc(key.error());
    response->set_publickey(public_key_of(*key));
    return grpc::Status::OK;
  }

  grpc::Status VerifyTokenAuthority(grpc::ServerContext*, const proto::VerifyTokenAuthorityRequest* request,
                                    proto::VerifyTokenAuthorityResponse* response) override {
    auto key = key_for(request->host(), request->salt());
    if (!key.ok()) return to_grpc(key.error());
    response->set_signed_(sign_message(*key, request->payload()));
    return grpc::Status::OK;
  }

 private:
  struct cached_credentials {
    registry_credentials value;
    std::chrono::steady_clock::time_point created;
  };

  static std::string secret_of(const registry_credentials& c) {
    return c.identity_token.empty() ? c.password : c.identity_token;
  }

  // Helpers may prompt or be slow: one at a time, and the answer is kept a while.
  result<registry_credentials> credentials(const std::string& host) {
    std::lock_guard lock(mutex_);
    auto now = std::chrono::steady_clock::now();
    if (auto it = cache_.find(host); it != cache_.end() && now - it->second.created < credentials_age_max)
      return it->second.value;
    const char* environment = std::getenv("DOCKER_AUTH_CONFIG");
    KILN_TRY(auto found, find_credentials(options_.config, host, environment ? environment : ""));
    cache_[host] = {found, now};
    return found;
  }

  result<std::string> key_for(const std::string& host, const std::string& salt) {
    if (tokens_disabled()) return make_error(errc::unavailable, "client side tokens disabled");
    KILN_TRY(auto found, credentials(host));
    KILN_TRY(auto seed, load_token_seed(options_.config_directory, host));
    return authority_key(salt, secret_of(found).empty() ? "" : seed);
  }

  void show(const std::string& name, std::optional<nanoseconds_t> started = std::nullopt,
            const std::string& failure = {}) {
    {
      std::lock_guard lock(mutex_);
      if (!shown_.insert(name).second) return;
    }
    if (!options_.log) return;
    vertex v;
    v.digest = sha256(new_id()).str();
    v.name = name;
    v.started = started.value_or(wall_clock());
    v.completed = wall_clock();
    v.error = failure;
    solve_status update;
    update.vertices.push_back(std::move(v));
    options_.log(std::move(update));
  }

  auth_options options_;
  std::mutex mutex_;
  std::map<std::string, cached_credentials> cache_;
  std::set<std::string> shown_;
};

}  // namespace

std::unique_ptr<session_service> make_auth_service(auth_options options) {
  return std::make_unique<auth_service>(std::move(options));
}

}  // namespace kiln::client
