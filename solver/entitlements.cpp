#include "solver/entitlements.hpp"

#include <algorithm>
#include <vector>

namespace kiln::solver {

namespace {

constexpr std::string_view network_host = "network.host";
constexpr std::string_view security_insecure = "security.insecure";
constexpr std::string_view device = "device";

error not_allowed(std::string_view name) {
  return make_error(errc::permission_denied, std::string(name) + " is not allowed");
}

}  // namespace

result<entitlements> entitlements::grant(std::span<const std::string> requested,
                                         std::span<const std::string> allowed_by_daemon) {
  entitlements out;
  for (const auto& text : requested) {
    auto equals = text.find('=');
    auto name = text.substr(0, equals);
    if (name != network_host && name != security_insecure && name != device)
      return make_error(errc::invalid_argument, "unknown entitlement " + text);
    if (std::find(allowed_by_daemon.begin(), allowed_by_daemon.end(), name) == allowed_by_daemon.end())
      return make_error(errc::permission_denied,
                        "granting entitlement " + name + " is not allowed by build daemon configuration");
    out.granted_.insert(name);
    if (name != device) continue;
    if (equals == std::string::npos) {
      out.all_devices_ = true;
      continue;
    }
    auto rest = text.substr(equals + 1);
    auto comma = rest.find(',');
    auto device_name = rest.substr(0, comma);
    if (device_name.starts_with("name=")) device_name = device_name.substr(5);
    std::string alias;
    if (comma != std::string::npos) {
      auto option = rest.substr(comma + 1);
      if (!option.starts_with("alias="))
        return make_error(errc::invalid_argument,
                          "unknown device config key \"" + option.substr(0, option.find('=')) + "\"");
      alias = option.substr(6);
    }
    out.devices_[device_name] = alias;
  }
  return out;
}

status entitlements::check(const pb::Op& op) const {
  if (!op.has_exec()) return {};
  const auto& exec = op.exec();
  if (exec.network() == pb::HOST && !granted_.contains(std::string(network_host)))
    return not_allowed(network_host);
  if (exec.security() == pb::INSECURE && !granted_.contains(std::string(security_insecure)))
    return not_allowed(security_insecure);
  if (all_devices_) return {};
  std::vector<std::string> forbidden;
  for (const auto& d : exec.cdidevices())
    if (!d.optional() && !devices_.contains(d.name())) forbidden.push_back(d.name());
  if (forbidden.empty()) return {};
  std::string list;
  for (const auto& name : forbidden) list += (list.empty() ? "" : ", ") + name;
  return make_error(errc::permission_denied,
                    forbidden.size() == 1
                        ? "device " + list + " is requested by the build but not allowed"
                        : "devices " + list + " are requested by the build but not allowed");
}

}  // namespace kiln::solver
