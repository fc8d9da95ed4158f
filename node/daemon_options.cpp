#include "node/daemon_options.hpp"

#include <grp.h>

#include <filesystem>
#include <limits>

#include "base/numbers.hpp"

namespace kiln::node {

result<gateway::server_options> gateway_options(const configs::daemon_config& c) {
  gateway::server_options o;
  o.addresses = c.addresses;
  o.tls = {c.tls.cert, c.tls.key, c.tls.ca};
  if (c.socket_uid) o.owner.uid = static_cast<uid_t>(*c.socket_uid);
  if (c.socket_gid) o.owner.gid = static_cast<gid_t>(*c.socket_gid);
  if (c.group.empty()) return o;
  if (c.group.find_first_not_of("0123456789") == std::string::npos) {
    auto gid =
        parse_uint(c.group, 10, std::numeric_limits<gid_t>::max() - 1);  // the last is nobody's: chown(2)
    if (!gid) return make_error(errc::invalid_argument, "--group: " + c.group + " is no id of a group");
    o.owner.gid = static_cast<gid_t>(*gid);
    return o;
  }
  auto* group = getgrnam(c.group.c_str());
  if (!group) return make_error(errc::not_found, "--group: no group named \"" + c.group + "\"");
  o.owner.gid = group->gr_gid;
  return o;
}

workers::executor_options executor_options(const configs::daemon_config& c) {
  workers::executor_options o;
  o.root = std::filesystem::path(c.root) / "executor";
  o.binary = c.oci.binary;
  o.default_cgroup_parent = c.oci.default_cgroup_parent;
  o.dns = {c.dns.nameservers, c.dns.options, c.dns.search_domains};
  o.network = {c.oci.network_mode,  c.oci.cni_config_path, c.oci.cni_binary_dir,
               c.oci.cni_pool_size, c.oci.bridge_name,     c.oci.bridge_subnet};
  o.apparmor_profile = c.oci.apparmor_profile;
  o.process_sandbox = !c.oci.no_process_sandbox;
  return o;
}

}  // namespace kiln::node
