#include "workers/executor/network.hpp"

#include <unistd.h>

#include <cerrno>

#include "base/files.hpp"
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

}  // namespace

result<std::unique_ptr<network_provider>> network_for_mode(const network_settings& settings,
                                                           const std::filesystem::path& root) {
  cni_options options{root, settings.cni_binary_dir, "", settings.cni_pool_size};
  if (settings.mode == "cni") return configured_network(settings, std::move(options));
  if (settings.mode == "bridge")
    return cni_provider(bridge_cni_network(settings.bridge_name, settings.bridge_subnet), std::move(options));
  if (settings.mode == "host") return host_network();
  if (settings.mode != "auto" && !settings.mode.empty())
    return make_error(errc::invalid_argument, "invalid network mode: \"" + settings.mode + "\"");
  if (settings.cni_config_path.empty()) return host_network();
  if (::access(settings.cni_config_path.c_str(), F_OK) == 0)
    return configured_network(settings, std::move(options));
  // Only where there is none: builds must not get the host's network because a disk failed.
  if (errno == ENOENT || errno == ENOTDIR) return host_network();
  return errno_error(errno, "look for cni config \"" + settings.cni_config_path + "\"");
}

}  // namespace kiln::workers
