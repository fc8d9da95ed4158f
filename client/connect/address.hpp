// Daemon addresses: unix://, tcp:// and the helpers that reach a daemon through another program. Pure.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "messages/result.hpp"

namespace kiln::client {

struct daemon_address {
  enum class kind { unix_socket, tcp, command };
  kind how = kind::unix_socket;
  std::string path;                // unix_socket
  std::string host_port;           // tcp
  std::string host;                // the server name to expect
  std::vector<std::string> argv;   // command: proxies its stdio to the daemon
  bool operator==(const daemon_address&) const = default;
};

/// invalid_argument names what is wrong with the address.
/// Source: buildkit client/client.go and client/connhelper/*.
result<daemon_address> parse_address(std::string_view text);

/// The parts of a URL this client needs. Percent escapes in the query and path are decoded.
struct url_parts {
  std::string scheme, user, password, host, port, path, fragment;
  bool has_password = false;
  std::map<std::string, std::string> query;
  std::string raw_query;
};
result<url_parts> parse_url(std::string_view text);
/// Decodes %XX; '+' becomes a space when `query`. Malformed escapes stay as they are.
std::string percent_decode(std::string_view text, bool query);
/// Escapes for a query or form value. Source: Go url.QueryEscape.
std::string query_escape(std::string_view text);

}  // namespace kiln::client
