// EXPOSE: ports, ranges and protocols.
#include <arpa/inet.h>

#include "frontends/dockerfile/converter.hpp"
#include "frontends/dockerfile/refusal.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace {

constexpr std::int64_t max_port = 65535;

struct port_range {
  std::int64_t first = 0, last = 0;
};

std::optional<std::int64_t> port_number(const std::string& text) {
  auto value = parse_int(text);
  return value && *value >= 0 && *value <= max_port ? value : std::nullopt;
}

std::optional<port_range> read_range(const std::string& text) {
  auto [first, last, is_range] = cut(text, "-");
  auto start = port_number(first);
  if (!start) return std::nullopt;
  if (!is_range || first == last) return port_range{*start, *start};
  auto end = port_number(last);
  if (!end || *end < *start) return std::nullopt;
  return port_range{*start, *end};
}

struct port_parts {
  std::string address, host, container;
};

port_parts split_parts(const std::string& text) {
  auto parts = split(text, ':');
  auto container = parts.back();
  parts.pop_back();
  if (parts.empty()) return {"", "", container};
  auto host = parts.back();
  parts.pop_back();
  return {join(parts, ":"), host, container};
}

bool is_address(std::string text) {
  if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
  unsigned char bytes[16];
  return inet_pton(AF_INET, text.c_str(), bytes) == 1 || inet_pton(AF_INET6, text.c_str(), bytes) == 1;
}

}  // namespace

status converter::expose(stage_state& s, const expose_instruction& i, const lint& checks) {
  std::vector<std::string> wanted, exposed;
  list_environment env(s.state.env);
  for (const auto& port : i.ports) {
    KILN_TRY(auto expanded, words_.expand(port, env));
    wanted.insert(wanted.end(), expanded.words.begin(), expanded.words.end());
  }
  for (const auto& port : wanted) {
    auto parts = split_parts(port);
    auto [container, protocol, has_protocol] = cut(parts.container, "/");
    auto wrong = [&](const std::string& why) { return invalid("invalid port: " + quote(port) + ": " + why); };
    if (container.empty()) return wrong("no port specified");
    if (protocol.empty()) protocol = "tcp";
    auto lower = to_lower(protocol);
    if (lower != "tcp" && lower != "udp" && lower != "sctp") return wrong("invalid proto: " + protocol);
    if (protocol != lower)
      checks.report(rules::expose_proto_casing,
                    "Defined protocol '" + port + "' in EXPOSE instruction should be lowercase", i.location);
    if (!parts.address.empty() || !parts.host.empty())
      checks.report(
          rules::expose_invalid_format,
          "EXPOSE instruction should not define an IP address or host-port mapping, found '" + port + "'",
          i.location);
    if (!parts.address.empty() && !is_address(parts.address))
      return invalid("invalid IP address: " + parts.address);
    auto range = read_range(container);
    if (!range) return invalid("invalid containerPort: " + container);
    if (!parts.host.empty()) {
      auto host = read_range(parts.host);
      if (!host) return invalid("invalid hostPort: " + parts.host);
      if (range->last - range->first != host->last - host->first && range->last != range->first)
        return invalid("invalid ranges specified for container and host Ports: " + container + " and " +
                       parts.host);
    }
    for (auto number = range->first; number <= range->last; ++number)
      exposed.push_back(std::to_string(number) + "/" + lower);
  }
  if (!s.image.exposed_ports) s.image.exposed_ports.emplace();
  s.image.exposed_ports->insert(exposed.begin(), exposed.end());
  commit(s, "EXPOSE " + bracketed(exposed), false, false);
  return {};
}

}  // namespace kiln::dockerfile
