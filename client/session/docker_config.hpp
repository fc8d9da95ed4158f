// Registry credentials as Docker stores them: config.json, credential helpers, DOCKER_AUTH_CONFIG.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace kiln::client {

struct registry_credentials {
  std::string username;
  std::string password;
  std::string identity_token;
  std::string registry_token;

  bool operator==(const registry_credentials&) const = default;
};

struct docker_config {
  std::map<std::string, registry_credentials> auths;  // as written: host, host:port or URL
  std::string credentials_store;
  std::map<std::string, std::string> credential_helpers;  // host → helper

  /// Parses config.json; invalid_argument with the place of the mistake.
  static result<docker_config> parse(std::string_view json);
};

/// $DOCKER_CONFIG, else ~/.docker.
std::string docker_config_directory();
/// The configuration of that directory; empty without a file. A broken file is reported by the error.
result<docker_config> load_docker_config(const std::string& directory);

/// The credentials for a registry host ("registry-1.docker.io" means Docker Hub), asking a helper if one is
/// configured; empty when there are none. `environment` is DOCKER_AUTH_CONFIG's value.
/// Source: docker/cli config/configfile GetAuthConfig and credentials.
result<registry_credentials> find_credentials(const docker_config& config, std::string_view host,
                                              std::string_view environment);
/// The file's entry alone: exact key first, then by host name without scheme and path.
registry_credentials lookup_auth(const docker_config& config, const std::string& key);

}  // namespace kiln::client
