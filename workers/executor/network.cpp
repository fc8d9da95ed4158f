#include "workers/executor/network.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include <spdlog/spdlog.h>

#include "base/files.hpp"
#include "base/numbers.hpp"
#include "base/program.hpp"
#include "configs/executor.hpp"
#include "workers/executor/cni_network.hpp"

namespace kiln::workers {

namespace {

class simple_namespace final : public network_namespace {
 public:
  explicit simple_namespace(bool host) : host_(host) {}
  bool host() const override { return host_; }

 private:
  bool host_;
};

class simple_provider final : public network_provider {
 public:
  explicit simple_provider(bool host) : host_(host) {}
  std::string name() const override { return host_ ? "host" : "none"; }
  result<std::unique_ptr<network_namespace>> make(const std::string&) override {
    return std::unique_ptr<network_namespace>(std::make_unique<simple_namespace>(host_));
  }

 private:
  bool host_;
};

}  // namespace

std::unique_ptr<network_provider> host_network() { return std::make_unique<simple_provider>(true); }

std::unique_ptr<network_provider> no_network() { return std::make_unique<simple_provider>(false); }

namespace {

result<std::unique_ptr<network_provider>> configured_network(const network_settings& settings,
                                                             cni_options options) {
  auto text = kiln::read_file(settings.cni_config_path, configs::cni_config_bytes_max);
  if (!text.ok())
    return std::move(text).error().with_context("failed to read cni config \"" + settings.cni_config_path +
                                                "\"");
  KILN_TRY(auto network, parse_cni_network(*text));
  return cni_provider(std::move(network), std::move(options));
}

/// The plugins that come with BuildKit, where PATH has all of them; else the usual ones.
result<std::unique_ptr<network_provider>> bridge_network(const network_settings& settings,
                                                         cni_options options) {
  const bridge_plugins shipped{"buildkit-cni-bridge", "buildkit-cni-host-local", "buildkit-cni-firewall"};
  bridge_plugins plugins = shipped;
  std::vector<std::filesystem::path> directories;
  for (const auto& name : {shipped.bridge, shipped.addresses, shipped.firewall}) {
    auto found = find_program(name);
    if (!found) {
      plugins = {};
      break;
    }
    directories.push_back(std::filesystem::path(*found).parent_path());
  }
  if (plugins.bridge == shipped.bridge) {
    options.plugins = std::move(directories);
  } else if (auto bridge = options.plugins.front() / plugins.bridge; ::access(bridge.c_str(), X_OK) != 0) {
    return make_error(errc::not_found,
                      "failed to find CNI bridge \"" + bridge.string() + "\" or " + shipped.bridge);
  }
  // firewalld is another network namespace's there.
  const char* rootless = std::getenv("ROOTLESSKIT_STATE_DIR");
  auto firewall = rootless != nullptr && *rootless != '\0' ? "iptables" : "";
  return cni_provider(bridge_cni_network(settings.bridge_name, settings.bridge_subnet, plugins, firewall),
                      std::move(options));
}

result<std::unique_ptr<network_provider>> fallback_network() {
  spdlog::warn("no CNI configuration: steps use the host's network");
  return host_network();
}

}  // namespace

result<std::unique_ptr<network_provider>> network_for_mode(const network_settings& settings,
                                                           const std::filesystem::path& root) {
  cni_options options{root, {settings.cni_binary_dir}, "", settings.cni_pool_size};
  if (settings.mode == "cni") return configured_network(settings, std::move(options));
  if (settings.mode == "bridge") return bridge_network(settings, std::move(options));
  if (settings.mode == "host") return host_network();
  if (settings.mode != "auto" && !settings.mode.empty())
    return make_error(errc::invalid_argument, "invalid network mode: \"" + settings.mode + "\"");
  const char* bridge = std::getenv("BUILDKIT_NETWORK_BRIDGE_AUTO");
  if (bridge != nullptr && parse_bool(bridge).value_or(false))
    return bridge_network(settings, std::move(options));
  if (settings.cni_config_path.empty()) return fallback_network();
  if (::access(settings.cni_config_path.c_str(), F_OK) == 0)
    return configured_network(settings, std::move(options));
  // Only where there is none: builds must not get the host's network because a disk failed.
  if (errno == ENOENT || errno == ENOTDIR) return fallback_network();
  return errno_error(errno, "look for cni config \"" + settings.cni_config_path + "\"");
}

}  // namespace kiln::workers
