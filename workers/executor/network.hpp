// Networks a container can have. A provider makes one namespace a container; released when destroyed.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "messages/result.hpp"

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
/// The worker's default by mode: "host"; "auto" is host as well until a CNI configuration exists, as
/// in BuildKit. invalid_argument for anything else.
result<std::unique_ptr<network_provider>> network_for_mode(const std::string& mode);

}  // namespace kiln::workers
