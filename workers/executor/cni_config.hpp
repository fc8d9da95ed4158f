// CNI network configurations and what passes between them and plugins. Pure.
// Source: CNI specification 1.0; BuildKit util/network/cniprovider/{cni,bridge}.go.
#pragma once

#include <string>
#include <vector>

#include "base/json_text.hpp"
#include "base/result.hpp"

namespace kiln::workers {

struct cni_network {
  std::string version;
  std::string name;
  std::vector<nlohmann::json> plugins;  // in the order of ADD
};

/// A configuration of one plugin (.conf, .json) or of several (.conflist).
result<cni_network> parse_cni_network(const std::string& text);

/// What the bridge's plugins are called: as everywhere, or as those that come with BuildKit.
struct bridge_plugins {
  std::string bridge = "bridge";
  std::string addresses = "host-local";
  std::string firewall = "firewall";
};

/// Our own bridge with host-local addresses. `firewall` is what the firewall plugin uses; empty: as it likes.
cni_network bridge_cni_network(const std::string& bridge, const std::string& subnet,
                               const bridge_plugins& plugins = {}, const std::string& firewall = "");

/// What a plugin reads: its configuration, the network's name and version, the former plugin's result
/// (null for the first).
std::string cni_plugin_input(const cni_network& network, std::size_t plugin, const nlohmann::json& former);

/// The error a plugin printed, or what else it printed.
std::string cni_error_text(const std::string& output);

}  // namespace kiln::workers
