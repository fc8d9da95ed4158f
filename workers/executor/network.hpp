// Networks a container can have. A provider makes one namespace a container; released when destroyed.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/result.hpp"

namespace kiln::workers {

/// One container's network.
class network_namespace {
 public:
  virtual ~network_namespace() = default;
  /// Whether the container shares the daemon's network.
  virtual bool host() const = 0;
  /// Path of a prepared namespace to join; nothing = the runtime makes an empty one (loopback only).
  virtual std::optional<std::string> path() const { return std::nullopt; }
};

class network_provider {
 public:
  virtual ~network_provider() = default;
  virtual std::string name() const = 0;
  virtual result<std::unique_ptr<network_namespace>> make(const std::string& hostname) = 0;
};

/// The daemon's own network.
std::unique_ptr<network_provider> host_network();
/// Loopback only.
std::unique_ptr<network_provider> no_network();
struct network_settings {
  std::string mode = "auto";  // auto, bridge, cni, host
  std::string cni_config_path;
  std::string cni_binary_dir;
  int cni_pool_size = 0;
  std::string bridge_name;
  std::string bridge_subnet;
};

/// The worker's default by mode; "auto" is the bridge where $BUILDKIT_NETWORK_BRIDGE_AUTO is true, else cni
/// where its configuration exists, else host, with a warning. `root` is a directory for the namespaces.
/// invalid_argument for an unknown mode, not_found without configuration or plugins. Source:
/// util/network/netproviders/network.go.
result<std::unique_ptr<network_provider>> network_for_mode(const network_settings& settings,
                                                           const std::filesystem::path& root);

}  // namespace kiln::workers
