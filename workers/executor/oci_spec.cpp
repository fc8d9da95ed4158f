#include "workers/executor/oci_spec.hpp"

#include <algorithm>
#include <unordered_map>

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base64.hpp"
#include "base/slash_path.hpp"
#include "base/text.hpp"
#include "configs/container_process.hpp"
#include "configs/executor.hpp"
#include "messages/platform.hpp"
#include "solver/go_json.hpp"
#include "store/files/mount.hpp"
#include "workers/cdi/apply.hpp"
#include "workers/executor/seccomp.hpp"

namespace kiln::workers {

namespace {

using nlohmann::json;

const std::vector<std::string>& default_capabilities() {
  static const std::vector<std::string> names{
      "CAP_CHOWN",   "CAP_DAC_OVERRIDE",     "CAP_FSETID",     "CAP_FOWNER",     "CAP_MKNOD",
      "CAP_NET_RAW", "CAP_SETGID",           "CAP_SETUID",     "CAP_SETFCAP",    "CAP_SETPCAP",
      "CAP_KILL",    "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_AUDIT_WRITE"};
  return names;
}

// Names by number (linux/capability.h).
constexpr const char* capability_names[] = {"CAP_CHOWN",
                                            "CAP_DAC_OVERRIDE",
                                            "CAP_DAC_READ_SEARCH",
                                            "CAP_FOWNER",
                                            "CAP_FSETID",
                                            "CAP_KILL",
                                            "CAP_SETGID",
                                            "CAP_SETUID",
                                            "CAP_SETPCAP",
                                            "CAP_LINUX_IMMUTABLE",
                                            "CAP_NET_BIND_SERVICE",
                                            "CAP_NET_BROADCAST",
                                            "CAP_NET_ADMIN",
                                            "CAP_NET_RAW",
                                            "CAP_IPC_LOCK",
                                            "CAP_IPC_OWNER",
                                            "CAP_SYS_MODULE",
                                            "CAP_SYS_RAWIO",
                                            "CAP_SYS_CHROOT",
                                            "CAP_SYS_PTRACE",
                                            "CAP_SYS_PACCT",
                                            "CAP_SYS_ADMIN",
                                            "CAP_SYS_BOOT",
                                            "CAP_SYS_NICE",
                                            "CAP_SYS_RESOURCE",
                                            "CAP_SYS_TIME",
                                            "CAP_SYS_TTY_CONFIG",
                                            "CAP_MKNOD",
                                            "CAP_LEASE",
                                            "CAP_AUDIT_WRITE",
                                            "CAP_AUDIT_CONTROL",
                                            "CAP_SETFCAP",
                                            "CAP_MAC_OVERRIDE",
                                            "CAP_MAC_ADMIN",
                                            "CAP_SYSLOG",
                                            "CAP_WAKE_ALARM",
                                            "CAP_BLOCK_SUSPEND",
                                            "CAP_AUDIT_READ",
                                            "CAP_PERFMON",
                                            "CAP_BPF",
                                            "CAP_CHECKPOINT_RESTORE"};

// Everything this process may give away.
std::vector<std::string> all_capabilities() {
  std::vector<std::string> names;
  for (unsigned i = 0; i < std::size(capability_names); ++i) {
    if (::prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1) names.emplace_back(capability_names[i]);
  }
  return names;
}

json mount_entry(std::string destination, std::string type, std::string source,
                 std::vector<std::string> options) {
  return {{"destination", std::move(destination)},
          {"type", std::move(type)},
          {"source", std::move(source)},
          {"options", std::move(options)}};
}

bool cgroup_namespaces() {
  struct stat st {};
  static const bool supported =
      ::stat("/proc/self/ns/cgroup", &st) == 0 && ::stat("/sys/fs/cgroup/cgroup.subtree_control", &st) == 0;
  return supported;
}

int free_loop_device() {
  int fd = ::open("/dev/loop-control", O_RDWR | O_CLOEXEC);
  if (fd < 0) return 0;
  int id = ::ioctl(fd, LOOP_CTL_GET_FREE);
  ::close(fd);
  return std::max(id, 0);
}

json insecure_devices() {
  json devices = json::array();
  auto add = [&](std::string path, std::string type, int major, int minor) {
    devices.push_back(
        {{"path", std::move(path)}, {"type", std::move(type)}, {"major", major}, {"minor", minor}});
  };
  add("/dev/kmsg", "c", 1, 11);
  add("/dev/cuse", "c", 10, 203);
  add("/dev/fuse", "c", 10, 229);
  add("/dev/kvm", "c", 10, 232);
  add("/dev/net/tun", "c", 10, 200);
  add("/dev/loop-control", "c", 10, 237);
  int last = free_loop_device() + 7;
  for (int i = 0; i <= last; ++i) add("/dev/loop" + std::to_string(i), "b", 7, i);
  return devices;
}

json standard_mounts(bool insecure, const spec_context& context) {
  json mounts = json::array();
  if (context.process_sandbox) {
    mounts.push_back(mount_entry("/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}));
  } else {
    mounts.push_back(mount_entry("/proc", "bind", "/proc", {"rbind"}));
  }
  mounts.push_back(
      mount_entry("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}));
  mounts.push_back(mount_entry("/dev/pts", "devpts", "devpts",
                               {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}));
  mounts.push_back(
      mount_entry("/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}));
  mounts.push_back(mount_entry("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}));
  mounts.push_back(
      mount_entry("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", insecure ? "rw" : "ro"}));
  const std::vector<std::string> plain_file{"nosuid", "noexec", "nodev", "rbind", "ro"};
  mounts.push_back(mount_entry("/etc/resolv.conf", "bind", context.resolv_conf, plain_file));
  mounts.push_back(mount_entry("/etc/hosts", "bind", context.hosts_file, plain_file));
  mounts.push_back(mount_entry("/sys/fs/cgroup", "cgroup", "cgroup",
                               {insecure ? "rw" : "ro", "nosuid", "noexec", "nodev"}));
  return mounts;
}

// A later mount on the same destination takes the earlier one's place.
void add_mounts(json& mounts, const std::vector<container_mount>& more) {
  std::unordered_map<std::string, std::size_t> places;
  for (std::size_t i = 0; i < mounts.size(); ++i) places[mounts[i]["destination"].get<std::string>()] = i;
  for (const auto& m : more) {
    auto destination = clean_absolute(m.destination);
    auto [place, fresh] = places.try_emplace(destination, mounts.size());
    if (fresh) mounts.push_back(nullptr);
    mounts[place->second] = mount_entry(std::move(destination), m.type, m.source, m.options);
  }
}

json user_object(const user_ids& user) {
  auto groups = user.additional_gids;
  std::set<std::uint32_t> seen;
  std::erase_if(groups, [&](std::uint32_t gid) { return !seen.insert(gid).second; });
  return {
      {"uid", user.uid}, {"gid", user.gid}, {"additionalGids", groups}, {"umask", configs::process_umask}};
}

json resources_object(const std::optional<pb::LinuxResources>& limits, bool insecure) {
  json resources = json::object();
  if (insecure) {
    resources["devices"] = {{{"allow", true}, {"type", "c"}, {"access", "rwm"}},
                            {{"allow", true}, {"type", "b"}, {"access", "rwm"}}};
  } else {
    resources["devices"] = {{{"allow", false}, {"access", "rwm"}}};
  }
  if (!limits) return resources;
  if (limits->memory() != 0) resources["memory"]["limit"] = limits->memory();
  if (limits->memoryswap() != 0) resources["memory"]["swap"] = limits->memoryswap();
  if (limits->cpushares() != 0) resources["cpu"]["shares"] = limits->cpushares();
  if (limits->cpuquota() != 0 || limits->cpuperiod() != 0) {
    resources["cpu"]["quota"] = limits->cpuquota();
    resources["cpu"]["period"] = limits->cpuperiod();
  }
  if (!limits->cpusetcpus().empty()) resources["cpu"]["cpus"] = limits->cpusetcpus();
  if (!limits->cpusetmems().empty()) resources["cpu"]["mems"] = limits->cpusetmems();
  return resources;
}

}  // namespace

std::string cgroup_path(const std::string& parent, const std::string& id) {
  if (parent.empty()) return "/buildkit/" + id;
  if (parent.find(".slice") != std::string::npos && parent.back() == ':') return parent + id;
  return clean_absolute("/" + parent + "/buildkit/" + id);
}

result<json> make_oci_spec(const container_spec& container, const spec_context& context) {
  if (container.security != pb::SANDBOX && container.security != pb::INSECURE) {
    return make_error(errc::invalid_argument, "invalid security mode " + std::to_string(container.security));
  }
  bool insecure = container.security == pb::INSECURE;

  json process{{"terminal", container.process.tty},
               {"user", user_object(context.user)},
               {"args", container.process.args},
               {"env", container.process.env},
               {"cwd", container.process.cwd.empty() ? "/" : container.process.cwd},
               {"noNewPrivileges", false}};
  if (insecure) {
    auto all = all_capabilities();
    for (const char* set : {"bounding", "permitted", "effective", "inheritable", "ambient"}) {
      process["capabilities"][set] = all;
    }
  } else {
    for (const char* set : {"bounding", "permitted", "effective"}) {
      process["capabilities"][set] = default_capabilities();
    }
    if (!context.apparmor_profile.empty()) process["apparmorProfile"] = context.apparmor_profile;
  }
  if (!container.ulimits.empty()) {
    json limits = json::array();
    for (const auto& u : container.ulimits) {
      std::string name = "RLIMIT_" + u.name();
      name = to_upper(name);
      limits.push_back({{"type", name},
                        {"hard", static_cast<std::uint64_t>(u.hard())},
                        {"soft", static_cast<std::uint64_t>(u.soft())}});
    }
    process["rlimits"] = std::move(limits);
  }

  json mounts = standard_mounts(insecure, context);
  add_mounts(mounts, container.mounts);

  json namespaces = json::array({{{"type", "ipc"}}, {{"type", "uts"}}, {{"type", "mount"}}});
  if (context.process_sandbox) namespaces.push_back({{"type", "pid"}});
  if (cgroup_namespaces()) namespaces.push_back({{"type", "cgroup"}});
  if (!context.host_network) {
    json net{{"type", "network"}};
    if (context.network_path) net["path"] = *context.network_path;
    namespaces.push_back(std::move(net));
  }

  json lin{{"cgroupsPath", context.cgroup_path},
           {"namespaces", std::move(namespaces)},
           {"resources", resources_object(container.resources, insecure)}};
  json annotations = json::object();
  if (insecure) {
    KILN_TRY(bool nested, store::in_user_namespace());  // devices cannot be made there
    if (!nested) lin["devices"] = insecure_devices();
  } else {
    lin["maskedPaths"] = {"/proc/acpi",          "/proc/asound",
                          "/proc/kcore",         "/proc/keys",
                          "/proc/latency_stats", "/proc/timer_list",
                          "/proc/timer_stats",   "/proc/sched_debug",
                          "/sys/firmware",       "/sys/devices/virtual/powercap",
                          "/proc/scsi"};
    lin["readonlyPaths"] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    if (seccomp_enabled()) {
      static const json profile =
          default_seccomp(host_platform().architecture, running_kernel(),
                          {default_capabilities().begin(), default_capabilities().end()});
      static const std::string compiled =
          context.precompiled_seccomp ? base64_encode(compile_seccomp(profile)) : "";
      if (context.precompiled_seccomp && !compiled.empty()) {
        annotations["run.oci.seccomp_bpf_data"] = compiled;
      }
      lin["seccomp"] = profile;
    }
  }

  json out{{"ociVersion", "1.0.2"},
           {"process", std::move(process)},
           {"root", {{"path", container.rootfs.string()}, {"readonly", container.readonly_rootfs}}},
           {"hostname", container.hostname.empty() ? configs::default_hostname : container.hostname},
           {"mounts", std::move(mounts)},
           {"annotations", std::move(annotations)},
           {"linux", std::move(lin)}};
  cdi::apply_edits(container.edits, out);
  return out;
}

json make_exec_process(const json& container_process, const process_spec& process,
                       const std::optional<user_ids>& user) {
  json out = container_process;
  out["terminal"] = process.tty;
  out["args"] = process.args;
  if (!process.env.empty()) out["env"] = process.env;
  if (!process.cwd.empty()) out["cwd"] = process.cwd;
  if (user) out["user"] = user_object(*user);
  return out;
}

}  // namespace kiln::workers
