// What a build may do beyond the sandbox: granted only when the daemon allows it and the client asked.
// Pure. Source: features.md N, util/entitlements.
#pragma once

#include <map>
#include <set>
#include <span>
#include <string>

#include "messages/result.hpp"
#include "ops.pb.h"

namespace kiln::solver {

class entitlements {
 public:
  /// `requested`: "network.host", "security.insecure", "device[=name[,alias=x]]". Errors:
  /// "unknown entitlement X"; "granting entitlement X is not allowed by build daemon configuration".
  static result<entitlements> grant(std::span<const std::string> requested,
                                    std::span<const std::string> allowed_by_daemon);

  bool has(const std::string& name) const { return granted_.contains(name); }
  /// permission_denied "<entitlement> is not allowed" when an exec needs what was not granted.
  status check(const pb::Op& op) const;

 private:
  std::set<std::string> granted_;
  bool all_devices_ = false;
  std::map<std::string, std::string> devices_;  // name → alias, may be empty
};

}  // namespace kiln::solver
