// The OCI runtime configuration (config.json) of a build container. Pure but for a few questions about the
// host, which are asked once. Source: executor/oci/spec_linux.go, containerd pkg/oci, runtime-spec 1.0.
#pragma once

#include <optional>
#include <string>

#include "base/json_text.hpp"
#include "workers/executor/container.hpp"
#include "workers/executor/users.hpp"

namespace kiln::workers {

/// What is decided outside the container's own description.
struct spec_context {
  std::string cgroup_path;
  std::string hosts_file;
  std::string resolv_conf;
  user_ids user;
  bool host_network = false;
  std::optional<std::string> network_path;
  bool process_sandbox = true;
  std::string apparmor_profile;
  bool precompiled_seccomp = false;  // the runtime takes a BPF program by annotation (crun)
};

/// invalid_argument: unknown security mode.
result<nlohmann::json> make_oci_spec(const container_spec& container, const spec_context& context);

/// The "process" object of an additional process, from that of its container.
nlohmann::json make_exec_process(const nlohmann::json& container_process, const process_spec& process,
                                 const std::optional<user_ids>& user);

/// "/<parent>/buildkit/<id>", or parent + id for systemd slices ("….slice:…:"); "/buildkit/<id>" without.
std::string cgroup_path(const std::string& parent, const std::string& id);

}  // namespace kiln::workers
