#include "solver/entitlements.hpp"

#include <algorithm>
#include <vector>

#include "base/text.hpp"

namespace kiln::solver {

namespace {

constexpr std::string_view network_host = "network.host";
constexpr std::string_view security_insecure = "security.insecure";
constexpr std::string_view any_device = "device";

error not_allowed(std::string_view name) {
  return make_error(errc::permission_denied, std::string(name) + " is not allowed");
}

status grant_device(const std::string& text, std::set<std::string>& devices,
                    std::map<std::string, std::string>& aliases) {
  auto comma = text.find(',');
  auto name = text.substr(0, comma);
  std::string alias;
  while (comma != std::string::npos) {
    auto begin = comma + 1;
    comma = text.find(',', begin);
    auto option = text.substr(begin, comma == std::string::npos ? comma : comma - begin);
    auto equals = option.find('=');
    if (equals == std::string::npos)
      return make_error(errc::invalid_argument, "invalid device config \"" + option + "\"");
    if (option.substr(0, equals) != "alias")
      return make_error(errc::invalid_argument,
                        "unknown device config key \"" + option.substr(0, equals) + "\"");
    alias = option.substr(equals + 1);
  }
  if (alias.empty()) devices.insert(name);
  else aliases[alias] = name;
  return {};
}

pb::CDIDevice required(const std::string& name) {
  pb::CDIDevice out;
  out.set_name(name);
  return out;
}

}  // namespace

result<entitlements> entitlements::grant(std::span<const std::string> requested,
                                         std::span<const std::string> allowed_by_daemon) {
  entitlements out;
  for (const auto& text : requested) {
    auto equals = text.find('=');
    auto name = text.substr(0, equals);
    if (name != network_host && name != security_insecure && name != any_device)
      return make_error(errc::invalid_argument, "unknown entitlement " + text);
    if (std::find(allowed_by_daemon.begin(), allowed_by_daemon.end(), name) == allowed_by_daemon.end())
      return make_error(errc::permission_denied,
                        "granting entitlement " + name + " is not allowed by build daemon configuration");
    out.granted_.insert(name);
    if (name != any_device) continue;
    if (equals == std::string::npos || equals + 1 == text.size()) {
      out.all_devices_ = true;
      continue;
    }
    KILN_CHECK(grant_device(text.substr(equals + 1), out.devices_, out.aliases_));
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
  return {};
}

status entitlements::admit_devices(pb::ExecOp& exec, std::span<const device> registered) const {
  if (exec.cdidevices().empty() || all_devices_) return {};
  std::vector<pb::CDIDevice> admitted, named;
  for (const auto& d : exec.cdidevices()) {
    auto alias = aliases_.find(d.name());
    if (alias == aliases_.end()) {
      named.push_back(d);
    } else {
      // The client said which device that is: it is granted with it.
      admitted.push_back(d);
      admitted.back().set_name(alias->second);
    }
  }
  KILN_TRY(auto wanted, find_devices(registered, named));
  std::set<std::string> granted;
  if (!wanted.empty()) {
    for (const auto& name : devices_) {
      std::vector<pb::CDIDevice> one{required(name)};
      KILN_TRY(auto found, find_devices(registered, one));
      granted.insert(found.begin(), found.end());
    }
  }
  std::vector<std::string> forbidden;
  for (const auto& name : wanted) {
    auto d =
        std::find_if(registered.begin(), registered.end(), [&](const device& r) { return r.name == name; });
    if (!granted.contains(name) && !d->auto_allowed) forbidden.push_back(name);
    admitted.push_back(required(name));
  }
  if (!forbidden.empty()) {
    auto list = join(forbidden, ", ");
    return make_error(errc::permission_denied,
                      forbidden.size() == 1
                          ? "device " + list + " is requested by the build but not allowed"
                          : "devices " + list + " are requested by the build but not allowed");
  }
  exec.mutable_cdidevices()->Assign(admitted.begin(), admitted.end());
  return {};
}

}  // namespace kiln::solver
