// The default seccomp profile as the OCI runtime configuration's `linux.seccomp`. Pure.
// Source: moby/profiles/seccomp DefaultProfile, resolved for one architecture, kernel and capability set.
#pragma once

#include <set>
#include <string>

#include "base/json_text.hpp"

namespace kiln::workers {

struct kernel_version {
  int major = 0;
  int minor = 0;
  auto operator<=>(const kernel_version&) const = default;
};

/// architecture as in Go ("amd64"), capabilities as "CAP_…".
nlohmann::json default_seccomp(const std::string& architecture, kernel_version kernel,
                               const std::set<std::string>& capabilities);

/// The same filter as the kernel takes it (a BPF program), for this machine's architecture only; empty when
/// libseccomp cannot make it. crun compiles the profile anew for every container otherwise, which costs more
/// than all the rest of starting one.
std::string compile_seccomp(const nlohmann::json& profile);

/// Of the running kernel.
kernel_version running_kernel();
/// Whether the kernel can filter system calls at all.
bool seccomp_enabled();

}  // namespace kiln::workers
