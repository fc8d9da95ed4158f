#include "workers/executor/seccomp.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <map>
#include <string_view>
#include <vector>

#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/unique_fd.hpp"
#include "workers/executor/seccomp_data.hpp"

namespace kiln::workers {

namespace {

using nlohmann::json;

constexpr int enosys = 38;
constexpr std::uint64_t clone_namespace_flags = 0x7E020000;  // CLONE_NEWNS | … that need CAP_SYS_ADMIN

std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    std::size_t blank = text.find(' ');
    if (blank != 0) out.emplace_back(text.substr(0, blank));
    text = blank == std::string_view::npos ? "" : text.substr(blank + 1);
  }
  return out;
}

json allow(std::string_view names) { return {{"names", words(names)}, {"action", "SCMP_ACT_ALLOW"}}; }

json allow_if(std::string_view name, unsigned index, std::uint64_t value, std::string_view op,
              std::uint64_t value_two = 0) {
  json arg{{"index", index}, {"value", value}, {"op", op}};
  if (value_two != 0) arg["valueTwo"] = value_two;
  json rule = allow(name);
  rule["args"] = json::array({arg});
  return rule;
}

// Go's names of architectures → what the profile calls them, native first.
std::vector<std::string> architectures(const std::string& go) {
  static const std::map<std::string, std::vector<std::string>> table{
      {"amd64", {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"}},
      {"386", {"SCMP_ARCH_X86"}},
      {"arm64", {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"}},
      {"arm", {"SCMP_ARCH_ARM"}},
      {"mips64", {"SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32"}},
      {"mips64le", {"SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64N32"}},
      {"s390x", {"SCMP_ARCH_S390X", "SCMP_ARCH_S390"}},
      {"riscv64", {"SCMP_ARCH_RISCV64"}},
      {"loong64", {"SCMP_ARCH_LOONGARCH64"}},
      {"ppc64le", {"SCMP_ARCH_PPC64LE"}},
  };
  auto it = table.find(go);
  return it == table.end() ? std::vector<std::string>{} : it->second;
}

// Further calls a capability brings.
const std::vector<std::pair<const char*, const char*>>& by_capability() {
  static const std::vector<std::pair<const char*, const char*>> table{
      {"CAP_DAC_READ_SEARCH", "open_by_handle_at"},
      {"CAP_SYS_ADMIN", seccomp_data::sys_admin},
      {"CAP_SYS_BOOT", "reboot"},
      {"CAP_SYS_CHROOT", "chroot"},
      {"CAP_SYS_MODULE", "delete_module init_module finit_module"},
      {"CAP_SYS_PACCT", "acct"},
      {"CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"},
      {"CAP_SYS_RAWIO", "iopl ioperm"},
      {"CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"},
      {"CAP_SYS_TTY_CONFIG", "vhangup"},
      {"CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"},
      {"CAP_SYSLOG", "syslog"},
      {"CAP_BPF", "bpf"},
      {"CAP_PERFMON", "perf_event_open"},
  };
  return table;
}

}  // namespace

json default_seccomp(const std::string& architecture, kernel_version kernel,
                     const std::set<std::string>& capabilities) {
  json rules = json::array();
  rules.push_back(allow(seccomp_data::always));
  if (kernel >= kernel_version{4, 8}) rules.push_back(allow("process_vm_readv process_vm_writev ptrace"));
  // Sockets of every family but AF_ALG (38) and AF_VSOCK (40).
  rules.push_back(allow_if("socket", 0, 38, "SCMP_CMP_LT"));
  rules.push_back(allow_if("socket", 0, 39, "SCMP_CMP_EQ"));
  rules.push_back(allow_if("socket", 0, 40, "SCMP_CMP_GT"));
  for (std::uint64_t persona : {0x0ULL, 0x8ULL, 0x20000ULL, 0x20008ULL, 0xFFFFFFFFULL}) {
    rules.push_back(allow_if("personality", 0, persona, "SCMP_CMP_EQ"));
  }
  bool x86 = architecture == "amd64" || architecture == "386";
  bool s390 = architecture == "s390x";
  if (architecture == "ppc64le") rules.push_back(allow("sync_file_range2 swapcontext"));
  if (architecture == "arm" || architecture == "arm64") {
    rules.push_back(
        allow("arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"));
  }
  if (architecture == "amd64") rules.push_back(allow("arch_prctl"));
  if (x86) rules.push_back(allow("modify_ldt"));
  if (s390) rules.push_back(allow("s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"));
  if (architecture == "riscv64") rules.push_back(allow("riscv_flush_icache"));
  for (const auto& [capability, names] : by_capability()) {
    if (capabilities.contains(capability)) rules.push_back(allow(names));
  }
  if (!capabilities.contains("CAP_SYS_ADMIN")) {
    // New namespaces need the capability; clone3 hides its flags in memory, so programs must fall back to
    // clone.
    rules.push_back(allow_if("clone", s390 ? 1 : 0, clone_namespace_flags, "SCMP_CMP_MASKED_EQ"));
    rules.push_back({{"names", {"clone3"}}, {"action", "SCMP_ACT_ERRNO"}, {"errnoRet", enosys}});
  }
  return {{"defaultAction", "SCMP_ACT_ERRNO"},
          {"defaultErrnoRet", 1},
          {"architectures", architectures(architecture)},
          {"syscalls", std::move(rules)}};
}

std::string compile_seccomp(const json& profile) {
  scmp_filter_ctx filter = ::seccomp_init(SCMP_ACT_ERRNO(profile.value("defaultErrnoRet", 1)));
  if (filter == nullptr) return {};
  struct release {
    scmp_filter_ctx filter;
    ~release() { ::seccomp_release(filter); }
  } releaser{filter};
  static const std::map<std::string, scmp_compare> comparisons{{"SCMP_CMP_LT", SCMP_CMP_LT},
                                                               {"SCMP_CMP_EQ", SCMP_CMP_EQ},
                                                               {"SCMP_CMP_GT", SCMP_CMP_GT},
                                                               {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ}};
  static const std::map<std::string, std::uint32_t> architectures{
      {"SCMP_ARCH_X86", SCMP_ARCH_X86},         {"SCMP_ARCH_X86_64", SCMP_ARCH_X86_64},
      {"SCMP_ARCH_X32", SCMP_ARCH_X32},         {"SCMP_ARCH_ARM", SCMP_ARCH_ARM},
      {"SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64}, {"SCMP_ARCH_S390", SCMP_ARCH_S390},
      {"SCMP_ARCH_S390X", SCMP_ARCH_S390X},     {"SCMP_ARCH_PPC64LE", SCMP_ARCH_PPC64LE},
      {"SCMP_ARCH_RISCV64", SCMP_ARCH_RISCV64}};
  for (const auto& name : profile.at("architectures")) {
    auto it = architectures.find(name.get<std::string>());
    if (it == architectures.end()) return {};
    int rc = ::seccomp_arch_add(filter, it->second);
    if (rc != 0 && rc != -EEXIST) return {};
  }
  // The kernel answers a call it does not know with ENOSYS; a filter tree is shorter in its search than a
  // list.
  ::seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
  for (const auto& rule : profile.at("syscalls")) {
    bool allowed = rule.at("action") == "SCMP_ACT_ALLOW";
    std::uint32_t action = allowed ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(rule.value("errnoRet", 1));
    std::vector<scmp_arg_cmp> arguments;
    for (const auto& a : rule.value("args", json::array())) {
      scmp_arg_cmp c{};
      c.arg = a.at("index").get<unsigned>();
      c.op = comparisons.at(a.at("op").get<std::string>());
      c.datum_a = a.at("value").get<std::uint64_t>();
      c.datum_b = a.value("valueTwo", std::uint64_t{0});
      arguments.push_back(c);
    }
    for (const auto& name : rule.at("names")) {
      int number = ::seccomp_syscall_resolve_name(name.get<std::string>().c_str());
      if (number == __NR_SCMP_ERROR) continue;  // this libseccomp does not know it: stays forbidden
      int rc = ::seccomp_rule_add_array(filter, action, number, static_cast<unsigned>(arguments.size()),
                                        arguments.data());
      if (rc != 0 && rc != -EDOM && rc != -EFAULT) return {};
    }
  }
  unique_fd file(::memfd_create("seccomp", MFD_CLOEXEC));
  if (!file || ::seccomp_export_bpf(filter, file.get()) != 0) return {};
  std::string program(static_cast<std::size_t>(std::max<off_t>(::lseek(file.get(), 0, SEEK_END), 0)), '\0');
  if (::pread(file.get(), program.data(), program.size(), 0) != static_cast<ssize_t>(program.size()))
    return {};
  return program;
}

kernel_version running_kernel() {
  utsname name{};
  kernel_version v;
  if (::uname(&name) == 0) std::sscanf(name.release, "%d.%d", &v.major, &v.minor);
  return v;
}

bool seccomp_enabled() {
  // EINVAL: not built in. EFAULT (or success in strict mode, impossible here): there.
  return ::prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
}

}  // namespace kiln::workers
