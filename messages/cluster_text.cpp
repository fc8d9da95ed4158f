#include "messages/cluster_text.hpp"

#include <algorithm>
#include <charconv>

namespace kiln {

namespace {

constexpr std::size_t name_bytes_max = 64;
constexpr std::size_t host_bytes_max = 253;  // Source: RFC 1035, section 2.3.4

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
         c == '_';
}

}  // namespace

bool is_node_name(std::string_view text) {
  return !text.empty() && text.size() <= name_bytes_max &&
         std::all_of(text.begin(), text.end(), is_name_character);
}

std::string_view to_string(node_role role) {
  switch (role) {
    case node_role::both: return "both";
    case node_role::coordinator: return "coordinator";
    case node_role::worker: return "worker";
  }
  return "unknown";
}

std::optional<node_role> parse_node_role(std::string_view text) {
  for (auto role : {node_role::both, node_role::coordinator, node_role::worker})
    if (text == to_string(role)) return role;
  return std::nullopt;
}

std::optional<host_port> parse_host_port(std::string_view text) {
  auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  auto host = text.substr(0, colon);
  auto digits = text.substr(colon + 1);
  bool brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (brackets) host = host.substr(1, host.size() - 2);
  bool fits = std::all_of(host.begin(), host.end(), [&](char c) {
    return is_name_character(c) || (brackets && (c == ':' || c == '%'));
  });
  if (host.empty() || host.size() > host_bytes_max || !fits) return std::nullopt;
  std::uint16_t port = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc{} || end != digits.data() + digits.size() || port == 0) return std::nullopt;
  return host_port{std::string(host), port};
}

std::string join_host_port(std::string_view host, std::uint16_t port) {
  auto text = std::string(host);
  if (text.find(':') != std::string::npos && text.front() != '[') text = "[" + text + "]";
  return text + ":" + std::to_string(port);
}

bool is_wildcard(std::string_view host) { return host == "0.0.0.0" || host == "::" || host == "*"; }

}  // namespace kiln
