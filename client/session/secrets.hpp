// Secrets for the build, from files and environment variables. The daemon asks by id.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "client/session/service.hpp"

namespace kiln::client {

struct secret_source {
  std::string id;
  std::string file;
  std::string environment;  // name of a variable
};

/// Checks the sources: an id without file or variable names a variable of that name if set, else a file.
/// Source: buildkit session/secrets/secretsprovider NewStore.
result<std::map<std::string, secret_source>> resolve_secrets(const std::vector<secret_source>& sources);
/// The secret's value now; not_found for unknown ids.
result<std::string> read_secret(const std::map<std::string, secret_source>& secrets, const std::string& id);

std::unique_ptr<session_service> make_secrets_service(std::map<std::string, secret_source> secrets);

/// Biggest secret, in bytes. Source: buildkit secretsprovider MaxSecretSize.
inline constexpr std::size_t secret_bytes_max = 500 * 1024;

}  // namespace kiln::client
