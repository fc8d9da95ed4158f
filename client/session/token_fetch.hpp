// Fetches registry tokens over HTTP for the daemon, so that credentials never leave the client.
// Blocking; uses libcurl.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "client/session/docker_config.hpp"

namespace kiln::client {

/// TLS settings for one registry host (--registry-auth-tlscontext).
struct auth_tls {
  std::vector<std::string> root_cas;                           // files
  std::vector<std::pair<std::string, std::string>> key_pairs;  // certificate, key
  bool insecure = false;
};

struct token_request {
  std::string realm;  // URL
  std::string service;
  std::vector<std::string> scopes;
  std::string username;
  std::string secret;
};

struct fetched_token {
  std::string token;
  std::int64_t expires_seconds = 60;
  std::int64_t issued_at_seconds = 0;  // Unix epoch; 0 when the server did not say
};

/// With a secret: OAuth POST, and GET when the server does not know POST; anonymous GET otherwise.
/// Source: containerd remotes/docker/auth fetch.go, buildkit authprovider FetchToken.
result<fetched_token> fetch_token(const token_request& request, const auth_tls& tls);

/// Reads a token server's answer. Pure.
result<fetched_token> parse_token_answer(std::string_view body, bool oauth);

}  // namespace kiln::client
