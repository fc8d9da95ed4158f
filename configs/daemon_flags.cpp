#include "configs/daemon_flags.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>

#include <CLI/CLI.hpp>

#include "base/duration.hpp"
#include "configs/version.hpp"

namespace kiln::configs {

namespace {

std::string environment(const char* name) {
  auto* value = std::getenv(name);
  return value ? value : "";
}

bool in_user_namespace() {
  // The initial namespace maps everything: one line "0 0 4294967295".
  auto* file = std::fopen("/proc/self/uid_map", "re");
  if (!file) return false;
  unsigned long inside = 0;
  unsigned long outside = 0;
  unsigned long count = 0;
  int n = std::fscanf(file, "%lu %lu %lu", &inside, &outside, &count);
  std::fclose(file);
  return !(n == 3 && inside == 0 && outside == 0 && count == 4294967295UL);
}

struct rootless_paths {
  std::string config;
  std::string root;
  std::string runtime;  // of sockets
};

/// Where an unprivileged user's daemon lives. Source: features.md A1.
std::optional<rootless_paths> rootless() {
  auto user = environment("USER");
  if (!in_user_namespace() || user.empty() || user == "root") return std::nullopt;
  auto home = environment("HOME");
  auto or_home = [&](const char* variable, std::string_view below) {
    auto value = environment(variable);
    return value.empty() ? home + "/" + std::string(below) : value;
  };
  rootless_paths paths;
  paths.config = or_home("XDG_CONFIG_HOME", ".config") + "/buildkit/buildkitd.toml";
  paths.root = or_home("XDG_DATA_HOME", ".local/share") + "/buildkit";
  auto runtime = environment("XDG_RUNTIME_DIR");
  paths.runtime = runtime.empty() ? "/run/buildkit" : runtime + "/buildkit";
  return paths;
}

/// "Reserved[,Free[,Maximum]]" in MB (10^6).
status read_keep_storage(const std::string& text, worker_config& w) {
  std::string* targets[] = {&w.reserved_space, &w.min_free_space, &w.max_used_space};
  std::size_t start = 0;
  for (auto* target : targets) {
    auto comma = text.find(',', start);
    auto part = text.substr(start, comma == std::string::npos ? comma : comma - start);
    if (part.empty() || part.find_first_not_of("0123456789") != std::string::npos || part.size() > 12)
      return make_error(errc::invalid_argument,
                        "--*-gc-keepstorage \"" + text + "\": expected Reserved[,Free[,Maximum]] in MB");
    *target = std::to_string(std::stoll(part) * 1'000'000);
    if (comma == std::string::npos) return {};
    start = comma + 1;
  }
  return make_error(errc::invalid_argument, "--*-gc-keepstorage \"" + text + "\": too many values");
}

/// Binds flags whose values are applied over the config once that is loaded.
class flag_set {
 public:
  explicit flag_set(CLI::App& app) : app_(app) {}

  void text(const std::string& names, const std::string& help,
            std::function<std::string&(daemon_config&)> target) {
    auto value = std::make_shared<std::string>();
    auto* option = app_.add_option(names, *value, help);
    apply_.push_back([=](daemon_config& c) -> status {
      if (*option) target(c) = *value;
      return {};
    });
  }
  void list(const std::string& names, const std::string& help,
            std::function<std::vector<std::string>&(daemon_config&)> target) {
    auto value = std::make_shared<std::vector<std::string>>();
    auto* option = app_.add_option(names, *value, help)->allow_extra_args(false);
    apply_.push_back([=](daemon_config& c) -> status {
      if (*option) target(c) = *value;
      return {};
    });
  }
  void number(const std::string& names, const std::string& help, std::function<int&(daemon_config&)> target) {
    auto value = std::make_shared<int>(0);
    auto* option = app_.add_option(names, *value, help)->check(CLI::NonNegativeNumber);
    apply_.push_back([=](daemon_config& c) -> status {
      if (*option) target(c) = *value;
      return {};
    });
  }
  /// "--x", "--x=true", "--x=false".
  void boolean(const std::string& names, const std::string& help,
               std::function<bool&(daemon_config&)> target) {
    auto value = std::make_shared<bool>(false);
    auto* option = app_.add_flag(names, *value, help);
    apply_.push_back([=](daemon_config& c) -> status {
      if (*option) target(c) = *value;
      return {};
    });
  }
  void custom(const std::string& names, const std::string& help,
              std::function<status(daemon_config&, const std::vector<std::string>&)> f) {
    auto value = std::make_shared<std::vector<std::string>>();
    auto* option = app_.add_option(names, *value, help)->allow_extra_args(false);
    apply_.push_back([=](daemon_config& c) -> status {
      if (*option) return f(c, *value);
      return {};
    });
  }
  status apply(daemon_config& c) const {
    for (const auto& f : apply_) KILN_CHECK(f(c));
    return {};
  }

 private:
  CLI::App& app_;
  std::vector<std::function<status(daemon_config&)>> apply_;
};

status read_labels(worker_config& w, const std::vector<std::string>& pairs) {
  for (const auto& pair : pairs) {
    auto equals = pair.find('=');
    if (equals == std::string::npos || equals == 0)
      return make_error(errc::invalid_argument, "worker label \"" + pair + "\": expected key=value");
    w.labels[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  return {};
}

void add_worker_flags(flag_set& flags, const std::string& worker, const std::string& prefix,
                      worker_config daemon_config::*w) {
  flags.text("--" + worker, "use the " + prefix + " worker: true, false or auto",
             [=](daemon_config& c) -> std::string& { return (c.*w).enabled; });
  flags.custom("--" + worker + "-labels", "labels of the worker (key=value)",
               [=](daemon_config& c, const auto& values) { return read_labels(c.*w, values); });
  flags.text("--" + worker + "-snapshotter", "snapshotter: auto, overlayfs, fuse-overlayfs or native",
             [=](daemon_config& c) -> std::string& { return (c.*w).snapshotter; });
  flags.list("--" + worker + "-platform", "override the platforms detected",
             [=](daemon_config& c) -> std::vector<std::string>& { return (c.*w).platforms; });
  flags.text("--" + worker + "-net", "network of build steps: auto, bridge, cni or host",
             [=](daemon_config& c) -> std::string& { return (c.*w).network_mode; });
  flags.text("--" + prefix + "-cni-config-path", "CNI config file",
             [=](daemon_config& c) -> std::string& { return (c.*w).cni_config_path; });
  flags.text("--" + prefix + "-cni-binary-dir", "where CNI plugins are",
             [=](daemon_config& c) -> std::string& { return (c.*w).cni_binary_dir; });
  flags.number("--" + prefix + "-cni-pool-size", "network namespaces kept ready",
               [=](daemon_config& c) -> int& { return (c.*w).cni_pool_size; });
  flags.text("--" + worker + "-apparmor-profile", "AppArmor profile of build steps (must be loaded)",
             [=](daemon_config& c) -> std::string& { return (c.*w).apparmor_profile; });
  flags.boolean("--" + worker + "-selinux", "apply SELinux labels",
                [=](daemon_config& c) -> bool& { return (c.*w).selinux; });
  flags.number("--" + prefix + "-max-parallelism", "build steps run at once; 0 = unlimited",
               [=](daemon_config& c) -> int& { return (c.*w).max_parallelism; });
  flags.boolean("--" + worker + "-rootless", "run build steps without real root",
                [=](daemon_config& c) -> bool& { return (c.*w).rootless; });
  flags.boolean("--" + worker + "-gc", "collect garbage automatically",
                [=](daemon_config& c) -> bool& { return (c.*w).gc; });
  flags.custom("--" + worker + "-gc-keepstorage", "Reserved[,Free[,Maximum]] in MB for the default GC policy",
               [=](daemon_config& c, const auto& values) { return read_keep_storage(values.back(), c.*w); });
}

void add_cluster_flags(flag_set& flags) {
  auto text = [&](const std::string& name, const std::string& help, std::string cluster_config::*member) {
    flags.text("--cluster-" + name, help,
               [member](daemon_config& c) -> std::string& { return c.cluster.*member; });
  };
  auto duration = [&](const std::string& name, const std::string& help,
                      std::int64_t cluster_config::*member) {
    flags.custom("--cluster-" + name, help,
                 [name, member](daemon_config& c, const std::vector<std::string>& values) -> status {
                   auto parsed = parse_duration(values.back());
                   if (!parsed.ok()) return std::move(parsed).error().with_context("--cluster-" + name);
                   c.cluster.*member = *parsed;
                   return {};
                 });
  };
  text("listen", "host:port where other nodes of the cluster reach this one; there is no cluster without it",
       &cluster_config::listen);
  text("name", "name of this node; default the host name", &cluster_config::name);
  text("advertise", "host that other nodes reach this one by; default that of --cluster-listen",
       &cluster_config::advertise);
  flags.number("--cluster-data-port", "port of its data; default the one after that of --cluster-listen",
               [](daemon_config& c) -> int& { return c.cluster.data_port; });
  flags.list("--cluster-seed",
             "host:port of a node to join, or of a name that resolves to all of them, repeatable",
             [](daemon_config& c) -> std::vector<std::string>& { return c.cluster.seeds; });
  text("ca", "CA that the certificates of all nodes come from", &cluster_config::ca);
  text("cert", "certificate of this node", &cluster_config::cert);
  text("key", "its key", &cluster_config::key);
  text("role", "both, coordinator (runs nothing) or worker", &cluster_config::role);
  duration("beat-interval", "time between heartbeats", &cluster_config::heartbeat_interval_ns);
  duration("dead-after", "a node not heard of for so long is dead", &cluster_config::dead_after_ns);
  duration("peer-answer-time", "how long another node may take to say what its cache knows",
           &cluster_config::peer_answer_time_ns);
  duration("drain-grace", "how long a drained node waits for what still runs on it",
           &cluster_config::drain_grace_ns);
  flags.number("--cluster-slots", "steps this node runs at a time for everybody together; 0: two a core",
               [](daemon_config& c) -> int& { return c.cluster.slots; });
}

/// An option CLI11 must know but nobody uses here: accepted so that scripts keep working.
void accept(CLI::App& app, const std::string& names, bool takes_value) {
  if (takes_value) {
    app.add_option_function<std::string>(names, [](const std::string&) {})->group("");
  } else {
    app.add_flag(names)->group("");
  }
}

}  // namespace

result<command_line> parse_command_line(int argc, const char* const* argv) {
  CLI::App app{"Kiln: builds container images and other artifacts (speaks BuildKit's protocols)", "kilnd"};
  auto unprivileged = rootless();

  command_line line;
  bool debug = false;
  bool version_flag = false;
  line.config_file = unprivileged ? unprivileged->config : "/etc/buildkit/buildkitd.toml";
  app.add_option("--config", line.config_file, "config file")->capture_default_str();
  app.add_flag("--debug", debug, "log at level debug");
  app.add_flag("-v,--version", version_flag, "print the version");

  flag_set flags{app};
  flags.text("--log-level", "error, warn, info, debug or trace",
             [](daemon_config& c) -> std::string& { return c.log_level; });
  flags.text("--log-format", "text or json", [](daemon_config& c) -> std::string& { return c.log_format; });
  flags.text("--root", "state directory", [](daemon_config& c) -> std::string& { return c.root; });
  flags.list("--addr", "listening address (unix://, tcp://, fd://), repeatable",
             [](daemon_config& c) -> std::vector<std::string>& { return c.addresses; });
  flags.text("--group", "group (name or gid) that owns the unix socket",
             [](daemon_config& c) -> std::string& { return c.group; });
  flags.text("--debugaddr", "debugging address",
             [](daemon_config& c) -> std::string& { return c.debug_address; });
  flags.text("--tlscert", "certificate of the server",
             [](daemon_config& c) -> std::string& { return c.tls.cert; });
  flags.text("--tlskey", "its key", [](daemon_config& c) -> std::string& { return c.tls.key; });
  flags.text("--tlscacert", "CA that client certificates must come from",
             [](daemon_config& c) -> std::string& { return c.tls.ca; });
  flags.list("--allow-insecure-entitlement", "network.host, security.insecure or device, repeatable",
             [](daemon_config& c) -> std::vector<std::string>& { return c.insecure_entitlements; });
  flags.text("--otel-socket-path", "socket of the trace collector",
             [](daemon_config& c) -> std::string& { return c.otel_socket_path; });
  flags.boolean("--cdi-disabled", "no CDI devices", [](daemon_config& c) -> bool& { return c.cdi_disabled; });
  flags.list("--cdi-spec-dir", "where CDI specs are, repeatable",
             [](daemon_config& c) -> std::vector<std::string>& { return c.cdi_spec_dirs; });
  add_worker_flags(flags, "oci-worker", "oci", &daemon_config::oci);
  flags.text("--oci-worker-binary", "OCI runtime; default crun, else runc",
             [](daemon_config& c) -> std::string& { return c.oci.binary; });
  flags.boolean("--oci-worker-no-process-sandbox", "share the host's PID namespace (rootless only)",
                [](daemon_config& c) -> bool& { return c.oci.no_process_sandbox; });
  add_worker_flags(flags, "containerd-worker", "containerd", &daemon_config::containerd);
  add_cluster_flags(flags);
  for (auto name :
       {"--oci-worker-proxy-snapshotter-path", "--containerd-worker-addr", "--containerd-worker-namespace",
        "--containerd-worker-runtime", "--service-name", "--log-file"})
    accept(app, name, true);
  for (auto name : {"--trace", "--rootless", "--proxy-network", "--save-cache-debug"})
    accept(app, name, false);

  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    line.print_and_exit = app.help();
    return line;
  } catch (const CLI::ParseError& e) {
    return make_error(errc::invalid_argument, e.what());
  }
  if (version_flag) {
    line.print_and_exit =
        std::string("kilnd ") + package_name + " " + version + " (BuildKit " + buildkit_version + ")\n";
    return line;
  }

  KILN_TRY(auto loaded, load_config(line.config_file));
  line.config = std::move(loaded.config);
  line.unknown_keys = std::move(loaded.unknown_keys);
  if (unprivileged) {
    daemon_config defaults;
    if (line.config.root == defaults.root) line.config.root = unprivileged->root;
    if (line.config.addresses == defaults.addresses)
      line.config.addresses = {"unix://" + unprivileged->runtime + "/buildkitd.sock"};
    line.config.oci.rootless = true;
  }
  if (auto level = environment("BUILDKITD_LOG_LEVEL"); !level.empty()) line.config.log_level = level;
  KILN_CHECK(flags.apply(line.config));
  if (debug) line.config.log_level = "debug";
  if (!line.config.cdi_disabled) {
    auto& allowed = line.config.insecure_entitlements;
    if (std::find(allowed.begin(), allowed.end(), "device") == allowed.end()) allowed.push_back("device");
  }
  KILN_CHECK(validate(line.config));
  return line;
}

}  // namespace kiln::configs
