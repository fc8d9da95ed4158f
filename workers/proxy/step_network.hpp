// The network of one step that is to reach nothing but its proxy: a namespace with a loopback device, on
// which the proxy listens, and no other way out. Held by descriptors alone, so that nothing is left of it
// whatever ends the daemon. Blocking; any thread.
// Source: BuildKit util/network/proxyprovider, which has two devices and two namespaces for it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "workers/executor/network.hpp"
#include "workers/proxy/server.hpp"

namespace kiln::workers::proxy {

/// What a step brings along that is to have a proxy.
struct step_rules {
  judge may;                   // null: everything
  recorder* record = nullptr;  // outlives the network; null: nobody wants to know
};

class step_network {
 public:
  /// `egress`: the network that the step would have without a proxy; requests leave from there.
  static result<std::unique_ptr<step_network>> open(std::shared_ptr<certificates> authority,
                                                    std::unique_ptr<network_namespace> egress,
                                                    const step_rules& rules);

  /// Of the namespace, for a runtime to join while this lives.
  std::string path() const;
  /// NAME=value: how programs in it find the proxy.
  std::vector<std::string> environment() const;
  /// PEM, for them to trust.
  const std::string& ca() const { return authority_->ca(); }

 private:
  std::shared_ptr<certificates> authority_;
  std::unique_ptr<network_namespace> egress_;
  recorder unwanted_;
  unique_fd namespace_;
  int port_ = 0;
  std::unique_ptr<server> server_;  // the last: it uses all of it
};

}  // namespace kiln::workers::proxy
