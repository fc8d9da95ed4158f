#include "solver/step_entitlements.hpp"

#include <algorithm>
#include <vector>

namespace kiln::solver {

status admit_step(const pb::Op& op, std::span<const std::string> allowed_by_daemon,
                  std::span<const device> registered) {
  auto allowed = [&](std::string_view name) {
    return std::find(allowed_by_daemon.begin(), allowed_by_daemon.end(), name) != allowed_by_daemon.end();
  };
  auto refused = [](std::string_view name) {
    return make_error(
        errc::permission_denied,
        std::string(name) + " is not allowed by the configuration of the node that is to run the step");
  };
  const auto& exec = op.exec();
  if (exec.network() == pb::HOST && !allowed("network.host")) return refused("network.host");
  if (exec.security() == pb::INSECURE && !allowed("security.insecure")) return refused("security.insecure");
  if (exec.cdidevices().empty() || allowed("device")) return {};
  std::vector<pb::CDIDevice> named(exec.cdidevices().begin(), exec.cdidevices().end());
  KILN_TRY(auto wanted, find_devices(registered, named));
  for (const auto& name : wanted)
    for (const auto& d : registered)
      if (d.name == name && !d.auto_allowed) return refused("device " + name);
  return {};
}

}  // namespace kiln::solver
