// What a build may do beyond the sandbox: granted only when the daemon allows it and the client asked.
// Pure. Source: util/entitlements.
#pragma once

#include <map>
#include <set>
#include <span>
#include <string>

#include "base/result.hpp"
#include "ops.pb.h"
#include "solver/devices.hpp"

namespace kiln::solver {

class entitlements {
 public:
  /// `requested`: "network.host", "security.insecure", "device", "device=<device, kind or class>",
  /// "device=<device>,alias=<what steps call it>". Errors: "unknown entitlement X"; "granting entitlement X
  /// is not allowed by build daemon configuration"; what is wrong with a device's options.
  static result<entitlements> grant(std::span<const std::string> requested,
                                    std::span<const std::string> allowed_by_daemon);

  bool has(const std::string& name) const { return granted_.contains(name); }
  /// permission_denied "<entitlement> is not allowed" when an exec needs what was not granted.
  status check(const pb::Op& op) const;
  /// Puts the full names of devices in place of what the step asks for, so that its cache key tells which it
  /// got; optional ones that are not there go. When all devices are granted, the step is left as it is and
  /// gets what is there when it runs. Errors: not_found, a required device (or one that was granted) is not
  /// registered; permission_denied "device X is requested by the build but not allowed". Source:
  /// solver/llbsolver/vertex.go ValidateEntitlements.
  status admit_devices(pb::ExecOp& exec, std::span<const device> registered) const;

 private:
  std::set<std::string> granted_;
  bool all_devices_ = false;
  std::set<std::string> devices_;               // as the client named them
  std::map<std::string, std::string> aliases_;  // what steps say → the device they get
};

}  // namespace kiln::solver
