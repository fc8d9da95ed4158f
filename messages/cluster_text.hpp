// Names, roles and addresses of nodes as text. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "messages/cluster_types.hpp"

namespace kiln {

/// 1 to 64 letters, digits, '.', '-' and '_'.
bool is_node_name(std::string_view text);

std::string_view to_string(node_role role);
std::optional<node_role> parse_node_role(std::string_view text);

struct host_port {
  std::string host;  // without brackets
  std::uint16_t port = 0;
  bool operator==(const host_port&) const = default;
};

/// "host:port" or "[v6]:port", port 1 to 65535; nothing for anything else.
std::optional<host_port> parse_host_port(std::string_view text);
/// Puts a host with colons in brackets.
std::string join_host_port(std::string_view host, std::uint16_t port);
/// An address that stands for all of a machine.
bool is_wildcard(std::string_view host);

}  // namespace kiln
