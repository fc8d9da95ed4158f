// Daemon addresses: unix://, tcp:// and the helpers that reach a daemon through another program. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace kiln::client {

struct daemon_address {
  enum class kind { unix_socket, tcp, command };
  kind how = kind::unix_socket;
  std::string path;               // unix_socket
  std::string host_port;          // tcp
  std::string host;               // the server name to expect
  std::vector<std::string> argv;  // command: proxies its stdio to the daemon
  bool operator==(const daemon_address&) const = default;
};

/// invalid_argument names what is wrong with the address.
/// Source: buildkit client/client.go and client/connhelper/*.
result<daemon_address> parse_address(std::string_view text);

}  // namespace kiln::client
