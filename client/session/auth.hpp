// Registry credentials and tokens for the daemon.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "client/progress/status.hpp"
#include "client/session/docker_config.hpp"
#include "client/session/service.hpp"
#include "client/session/token_fetch.hpp"

namespace kiln::client {

struct auth_options {
  docker_config config;
  std::string config_directory;  // for the token seeds
  std::map<std::string, auth_tls> tls;
  /// Shows "[auth] …" steps; called from gRPC threads.
  std::function<void(solve_status)> log;
};

/// Source: buildkit session/auth/authprovider.
std::unique_ptr<session_service> make_auth_service(auth_options options);

}  // namespace kiln::client
