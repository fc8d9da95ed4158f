#include "workers/executor/network.hpp"

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

result<std::unique_ptr<network_provider>> network_for_mode(const std::string& mode) {
  if (mode == "auto" || mode == "host" || mode.empty()) return host_network();
  if (mode == "bridge" || mode == "cni") {
    return make_error(errc::unimplemented,
                      "network mode " + mode + " is not supported yet; use auto or host");
  }
  return make_error(errc::invalid_argument, "invalid network mode: \"" + mode + "\"");
}

}  // namespace kiln::workers
