// Credentials and tokens for registries: answers WWW-Authenticate challenges with what the client's session
// offers, and caches what it got per registry, client and scope. Thread-safe; calls block.
// A registry may name any host to give out its tokens (Docker Hub's and many others' are elsewhere), and that
// host gets the credentials for this registry, as with every client of registries. But not in clear text,
// unless the registry itself is spoken to so, and not by way of redirects. Source:
// util/resolver/authorizer.go; session/auth/auth.go; distribution's token specification.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "messages/job.hpp"
#include "distribution/transport.hpp"

namespace kiln::distribution {

/// One challenge of a WWW-Authenticate header; scheme and parameter names in lower case.
struct challenge {
  std::string scheme;
  std::map<std::string, std::string> parameters;
};
std::vector<challenge> parse_challenges(const headers& h);

/// Merges scopes ("repository:a:pull") by resource, actions sorted. Source: parseScopes.
std::vector<std::string> normalize_scopes(const std::vector<std::string>& scopes);

class authorizer {
 public:
  explicit authorizer(kiln::distribution::transport& t) : transport_(t) {}

  /// The Authorization header for a request to `host`, from what is cached; empty when nothing is
  /// known yet. May fetch a token for a scope not asked for before.
  result<std::string> authorize(const std::string& host, const std::vector<std::string>& scopes,
                                const job_context& job, std::shared_ptr<const tls_settings> tls);

  /// Digests a 401: learns the challenge, gets credentials or a token. `sent` is the header the
  /// refused request carried; a refusal of fresh credentials is unauthenticated.
  status challenged(const std::string& host, const response& answer, const std::string& sent,
                    const std::vector<std::string>& scopes, const job_context& job,
                    std::shared_ptr<const tls_settings> tls);

 private:
  struct token {
    std::string header;
    std::chrono::steady_clock::time_point expires;
  };
  /// What is known of one registry, for the sessions of one job and those of the same client.
  struct entry {
    challenge how;
    bool plain = false;     // the registry asked over http, as configured
    std::string authority;  // the public key of a client that gets tokens itself
    std::string username, secret;
    std::map<std::string, token> tokens;  // by joined scopes
    std::vector<std::string> extra_scopes;
    std::mutex fetching;  // one token fetch at a time

    bool client_fetches() const { return !authority.empty(); }
  };

  static status check_realm(const entry& e);
  static std::string key_of(const std::string& host, const job_context& job);
  std::shared_ptr<entry> find(const std::string& key);
  std::shared_ptr<entry> shared(const std::string& host, const job_context& job);
  result<std::shared_ptr<entry>> learn(const std::string& host, const challenge& c, const job_context& job);
  result<token> fetch_token(const std::string& host, entry& e, const std::vector<std::string>& scopes,
                            const job_context& job, std::shared_ptr<const tls_settings> tls);
  result<token> fetch_from_server(entry& e, const std::vector<std::string>& scopes, const job_context& job,
                                  std::shared_ptr<const tls_settings> tls);

  kiln::distribution::transport& transport_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<entry>> entries_;
};

}  // namespace kiln::distribution
