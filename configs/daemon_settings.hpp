// Every key of the config file, and every flag that stands for one, with what it does: listed once, for
// whoever visits them. A visitor V has
//   value(about, kind)            one setting (configs/setting.hpp)
//   table(key, visit)             a table; visit(V&)
//   rows(key, vector, visit)      an array of tables; visit(V&, row)
//   tables(name, map, visit)      tables by names of the user's; visit(V&, table); `name` stands for these
// Keys and flags are buildkitd's, but for the table "cluster", which is Kiln's own.
#pragma once

#include "configs/daemon_config.hpp"
#include "configs/registry.hpp"
#include "configs/setting.hpp"

namespace kiln::configs::settings {

template <class V>
void visit_grpc(V& v, daemon_config& c) {
  v.value({"address", "--addr", "where clients come: `unix://`, `tcp://` or `fd://`"}, plain{c.addresses});
  v.value({"uid", "", "owner of unix sockets", "the daemon's"}, owner_id{c.socket_uid});
  v.value({"gid", "", "group of unix sockets", "the daemon's"}, owner_id{c.socket_gid});
  v.value({"", "--group", "group of unix sockets, by name or number"}, plain{c.group});
  v.value({"debugAddress",
           "--debugaddr",
           "BuildKit's debugging over HTTP: Kiln has none",
           {},
           "BUILDKITD_DEBUGADDR"},
          lacking{lacking::answer::warn});
  v.value({"securityDescriptor", "", "of pipes on Windows"}, lacking{lacking::answer::warn});
  v.table("tls", [&](V& tls) {
    tls.value({"cert", "--tlscert", "certificate of the server, PEM"}, plain{c.tls.cert});
    tls.value({"key", "--tlskey", "its key, PEM"}, plain{c.tls.key});
    tls.value(
        {"ca", "--tlscacert", "CA that client certificates must come from; without it anybody may come"},
        plain{c.tls.ca});
  });
}

template <class V>
void visit_gc_rule(V& v, gc_rule& rule) {
  v.value({"all", "", "also what is kept for frontends and inner use"}, plain{rule.all});
  v.value(
      {"filters", "", "only records that match one of these, in containerd's filter syntax", "all records"},
      plain{rule.filters});
  v.value({"keepDuration", "", "records used within this time stay", "any"}, duration{rule.keep_duration_ns});
  v.value({"reservedSpace", "", "so much is always kept"}, disk_space{rule.reserved_space});
  v.value({"maxUsedSpace", "", "beyond this, records go until it is met", "no bound"},
          disk_space{rule.max_used_space});
  v.value({"minFreeSpace", "", "with less free on the disk, records go, but not below `reservedSpace`",
           "no bound"},
          disk_space{rule.min_free_space});
  v.value({"keepBytes", "", "older name of `reservedSpace`"}, disk_space{rule.reserved_space, true});
}

template <class V>
void visit_network(V& v, worker_config& w) {
  v.value(
      {"networkMode", "--oci-worker-net",
       "network of build steps; `auto`: bridge if `$BUILDKIT_NETWORK_BRIDGE_AUTO` is true, else cni if it is "
       "configured, else host (in a user namespace always host)"},
      choice{w.network_mode, {"auto", "bridge", "cni", "host"}});
  v.value({"cniConfigPath", "--oci-cni-config-path", "CNI configuration, of network mode cni"},
          plain{w.cni_config_path});
  v.value({"cniBinaryPath", "--oci-cni-binary-dir", "directory of CNI plugins"}, plain{w.cni_binary_dir});
  v.value({"cniPoolSize", "--oci-cni-pool-size", "network namespaces that are made beforehand, and kept"},
          number{w.cni_pool_size});
  v.value({"bridgeName", "", "name of the bridge, of network mode bridge"}, plain{w.bridge_name});
  v.value({"bridgeSubnet", "", "its addresses"}, plain{w.bridge_subnet});
}

template <class V>
void visit_oci_worker(V& v, worker_config& w) {
  v.value({"enabled", "--oci-worker", "false is an error, as there is no other worker"},
          choice{w.enabled, {"true", "false", "auto"}});
  v.value({"labels", "--oci-worker-labels", "shown with the worker, and what builds may filter workers by"},
          plain{w.labels});
  v.value({"platforms", "--oci-worker-platform", "platforms that steps can be run for", "the machine's"},
          plain{w.platforms});
  v.value({"snapshotter", "--oci-worker-snapshotter",
           "how layers lie on the disk: auto, overlayfs, fuse-overlayfs or native"},
          plain{w.snapshotter});
  v.value({"binary", "--oci-worker-binary", "OCI runtime", "crun, else runc"}, plain{w.binary});
  v.value({"max-parallelism", "--oci-max-parallelism", "build steps that run at a time", "no bound"},
          number{w.max_parallelism});
  v.value({"defaultCgroupParent", "", "cgroup of steps that name none", "/buildkit"},
          plain{w.default_cgroup_parent});
  v.value({"apparmor-profile", "--oci-worker-apparmor-profile", "AppArmor profile of steps; must be loaded",
           "none"},
          plain{w.apparmor_profile});
  v.value({"rootless", "--oci-worker-rootless",
           "this daemon runs in a user namespace, where it is set by itself; elsewhere an error"},
          plain{w.rootless});
  v.value({"", "--rootless", "the same as `worker.oci.rootless`"}, plain{w.rootless});
  v.value({"noProcessSandbox", "--oci-worker-no-process-sandbox",
           "steps share the daemon's PID namespace; only with `rootless`"},
          plain{w.no_process_sandbox});
  visit_network(v, w);
  v.value({"gc", "--oci-worker-gc", "collect garbage"}, plain{w.gc});
  v.value({"reservedSpace", "", "of the default rules: so much is always kept", "10%, at most 10 GB"},
          disk_space{w.reserved_space});
  v.value({"maxUsedSpace", "", "of the default rules: never more than this", "80%, at most 100 GB"},
          disk_space{w.max_used_space});
  v.value({"minFreeSpace", "", "of the default rules: so much of the disk stays free", "20%"},
          disk_space{w.min_free_space});
  v.value({"gckeepstorage", "", "older name of `reservedSpace`"}, disk_space{w.reserved_space, true});
  v.value({"", "--oci-worker-gc-keepstorage", "the three of them: Reserved[,Free[,Maximum]]"},
          keep_storage{w.reserved_space, w.min_free_space, w.max_used_space});
  v.rows("gcpolicy", w.gc_policy, [](V& rule, gc_rule& r) { visit_gc_rule(rule, r); });
  v.value({"selinux", "--oci-worker-selinux", "SELinux labels: Kiln applies none"},
          lacking{lacking::answer::refuse, flag_form::toggle});
  v.value({"proxySnapshotterPath", "--oci-worker-proxy-snapshotter-path",
           "snapshotters in programs of their own: Kiln has its own only"},
          lacking{lacking::answer::refuse});
  v.value({"userRemapUnsupported", "", "mapped users in snapshots, unfinished in BuildKit"},
          lacking{lacking::answer::refuse});
  v.value({"stargzSnapshotter", "", "options of a snapshotter that Kiln has not"},
          lacking{lacking::answer::refuse});
}

template <class V>
void visit_containerd_worker(V& v) {
  constexpr std::string_view none = "containerd as a worker: Kiln has none; true is an error";
  v.value({"enabled", "--containerd-worker", none}, lacking{lacking::answer::refuse});
  constexpr std::string_view of_none = "of the containerd worker, which Kiln has not";
  struct name {
    std::string_view key, flag;
    flag_form form = flag_form::once;
  };
  for (const auto& n :
       std::initializer_list<name>{{"address", "--containerd-worker-addr"},
                                   {"namespace", "--containerd-worker-namespace"},
                                   {"runtime", "--containerd-worker-runtime"},
                                   {"labels", "--containerd-worker-labels", flag_form::repeated},
                                   {"platforms", "--containerd-worker-platform", flag_form::repeated},
                                   {"snapshotter", "--containerd-worker-snapshotter"},
                                   {"apparmor-profile", "--containerd-worker-apparmor-profile"},
                                   {"selinux", "--containerd-worker-selinux", flag_form::toggle},
                                   {"max-parallelism", "--containerd-max-parallelism"},
                                   {"rootless", "--containerd-worker-rootless", flag_form::toggle},
                                   {"defaultCgroupParent", ""},
                                   {"networkMode", "--containerd-worker-net"},
                                   {"cniConfigPath", "--containerd-cni-config-path"},
                                   {"cniBinaryPath", "--containerd-cni-binary-dir"},
                                   {"cniPoolSize", "--containerd-cni-pool-size"},
                                   {"bridgeName", ""},
                                   {"bridgeSubnet", ""},
                                   {"gc", "--containerd-worker-gc", flag_form::toggle},
                                   {"", "--containerd-worker-gc-keepstorage"},
                                   {"reservedSpace", ""},
                                   {"maxUsedSpace", ""},
                                   {"minFreeSpace", ""},
                                   {"gckeepstorage", ""},
                                   {"gcpolicy", ""}})
    v.value({n.key, n.flag, of_none}, lacking{lacking::answer::warn, n.form});
}

template <class V>
void visit_registry(V& v, registry_config& r) {
  v.value({"mirrors", "", "hosts, with a path if need be, that are asked first, in this order"},
          plain{r.mirrors});
  v.value({"http", "", "speak plain HTTP", "only with this machine"}, plain{r.http});
  v.value(
      {"insecure", "", "take any certificate; with `http`, plain HTTP only where there is no TLS", "false"},
      plain{r.insecure});
  v.value({"ca", "", "files of CAs beside the system's, PEM"}, plain{r.ca});
  v.value({"tlsconfigdir", "", "directories with `*.crt` (CAs), `*.cert` and `*.key` files"},
          plain{r.tls_config_dirs});
  v.rows("keypair", r.key_pairs, [](V& pair, registry_config::key_pair& p) {
    pair.value(
        {"key", "", "key of a client certificate, PEM; of several pairs a server sees the one it asks for"},
        plain{p.key});
    pair.value({"cert", "", "the certificate, PEM"}, plain{p.cert});
  });
}

/// BuildKit's code reads `command` in [cache.gha.sign], its manual says `cmd` in [ghacache.sign], a shell's
/// line.
template <class V>
void visit_gha_cache(V& v, gha_cache_config& c) {
  v.table("sign", [&](V& sign) {
    sign.value(
        {"command", "", "program that gets the cache's index and writes a Sigstore bundle", "not signed"},
        plain{c.sign_command});
    sign.value({"cmd", "", "the same as a shell's line"}, shell_line{c.sign_command});
  });
  v.table("verify", [&](V& verify) {
    verify.value({"required", "", "caches without a good signature are refused"}, plain{c.verify});
    verify.value({"trustedRoot", "", "file with the roots of trust", "where Sigstore's clients keep it"},
                 plain{c.trusted_root});
    verify.table("policy", [&](V& policy) {
      policy.value({"timestampThreshold", "", "how many must have told when it was signed"},
                   number{c.times_min, 0, 64});
      policy.value({"tlogThreshold", "", "transparency logs among them"}, number{c.log_times_min, 0, 64});
      for (std::string_view field : {"certificateIssuer",
                                     "subjectAlternativeName",
                                     "issuer",
                                     "githubWorkflowTrigger",
                                     "githubWorkflowSHA",
                                     "githubWorkflowName",
                                     "githubWorkflowRepository",
                                     "githubWorkflowRef",
                                     "buildSignerURI",
                                     "buildSignerDigest",
                                     "runnerEnvironment",
                                     "sourceRepositoryURI",
                                     "sourceRepositoryDigest",
                                     "sourceRepositoryRef",
                                     "sourceRepositoryIdentifier",
                                     "sourceRepositoryOwnerURI",
                                     "sourceRepositoryOwnerIdentifier",
                                     "buildConfigURI",
                                     "buildConfigDigest",
                                     "buildTrigger",
                                     "runInvocationURI",
                                     "sourceRepositoryVisibilityAtSigning"})
        policy.value({field, "", "pattern for this field of the signer's certificate", "any"},
                     named_text{c.certificate, field});
    });
  });
}

template <class V>
void visit_cluster(V& v, cluster_config& c) {
  v.value({"listen", "--cluster-listen", "`host:port` where other nodes reach this one", "no cluster"},
          plain{c.listen});
  v.value({"dataPort", "--cluster-data-port", "port for refs, blobs and sessions, on the same host",
           "the one after that of `listen`"},
          number{c.data_port, 0, 65'535});
  v.value(
      {"advertise", "--cluster-advertise",
       "host, without a port, that others use; needed when `listen` is every address", "that of `listen`"},
      plain{c.advertise});
  v.value({"name", "--cluster-name", "of this node, its own: 1 to 64 letters, digits, `.`, `-`, `_`",
           "the host name"},
          plain{c.name});
  v.value(
      {"seeds", "--cluster-seed", "`host:port` of nodes to join; a name of many addresses means all of them"},
      plain{c.seeds});
  v.value({"ca", "--cluster-ca", "CA of all nodes' certificates, PEM; required"}, plain{c.ca});
  v.value({"cert", "--cluster-cert", "certificate of this node, PEM; required"}, plain{c.cert});
  v.value({"key", "--cluster-key", "its key, PEM; required"}, plain{c.key});
  v.value({"role", "--cluster-role",
           "`coordinator`: runs no build steps, its own neither; `worker`: takes no builds"},
          choice{c.role, {"both", "coordinator", "worker"}});
  v.value({"slots", "--cluster-slots", "steps at a time, for all nodes together",
           "`max-parallelism`, else two a core"},
          number{c.slots, 0, cluster::slots_max});
  v.value(
      {"beatInterval", "--cluster-beat-interval", "time between heartbeats"},
      duration{c.heartbeat_interval_ns, cluster::heartbeat_interval_min, cluster::heartbeat_interval_max});
  v.value({"deadAfter", "--cluster-dead-after", "silence that means dead; at least three heartbeats"},
          duration{c.dead_after_ns, cluster::dead_after_min, cluster::dead_after_max});
  v.value({"peerAnswerTime", "--cluster-peer-answer-time",
           "how long a build waits for what other nodes' caches know"},
          duration{c.peer_answer_time_ns, cluster::peer_answer_time_min, cluster::peer_answer_time_max});
  v.value({"drainGrace", "--cluster-drain-grace", "how long a drained node waits for its work"},
          duration{c.drain_grace_ns, cluster::drain_grace_min, cluster::drain_grace_max});
}

/// All of them.
template <class V>
void visit(V& v, daemon_config& c) {
  v.value({"", "--debug", "the same as log level debug"}, log_switch{c.log_level, "debug"});
  v.value({"debug", "", "older form of `log.level`", {}, {}, "log.level = \"debug\""},
          log_switch{c.log_level, "debug"});
  v.value(
      {"trace", "--trace", "older form of `log.level`", {}, {}, "log.level = \"trace\" or --log-level=trace"},
      log_switch{c.log_level, "trace"});
  v.value({"root", "--root", "directory of the state"}, plain{c.root});
  v.value({"insecure-entitlements", "--allow-insecure-entitlement",
           "what builds may be allowed by their clients; `device` is added unless CDI is off", "none"},
          choices{c.insecure_entitlements, {"network.host", "security.insecure", "device"}});
  v.value({"provenanceEnvDir", "", "directory of JSON files that are added to every provenance"},
          plain{c.provenance_env_dir});
  v.value(
      {"proxyNetwork", "--proxy-network",
       "steps of all builds reach the network only through a proxy that judges and records what they fetch"},
      plain{c.proxy_network});
  v.value({"", "--save-cache-debug", "notes on cache keys for BuildKit's debugging: Kiln makes none"},
          lacking{lacking::answer::warn, flag_form::toggle});
  for (std::string_view flag : {"--profile-cpu", "--profile-memory", "--profile-memoryrate",
                                "--profile-block", "--profile-mutex", "--profile-trace"})
    v.value({"", flag, "a profiler of Go programs: for Kiln there are perf and heaptrack"},
            lacking{lacking::answer::refuse});
  v.table("log", [&](V& log) {
    log.value({"level", "--log-level", "what is logged", {}, "BUILDKITD_LOG_LEVEL"},
              choice{c.log_level, {"panic", "fatal", "error", "warn", "warning", "info", "debug", "trace"}});
    log.value({"format", "--log-format", "how it looks"}, choice{c.log_format, {"text", "json"}});
  });
  v.table("grpc", [&](V& grpc) { visit_grpc(grpc, c); });
  v.table("otel", [&](V& otel) {
    otel.value({"socketPath", "--otel-socket-path", "socket for traces out of builds: Kiln opens none"},
               lacking{lacking::answer::warn});
  });
  v.table("cdi", [&](V& cdi) {
    cdi.value({"disabled", "--cdi-disabled", "no CDI devices for builds"}, plain{c.cdi_disabled});
    cdi.value({"specDirs", "--cdi-spec-dir", "directories of CDI spec files"}, plain{c.cdi_spec_dirs});
    cdi.value({"autoAllowed", "", "devices and kinds of devices that every build may have", "none"},
              plain{c.cdi_auto_allowed});
  });
  v.table("worker", [&](V& workers) {
    workers.table("oci", [&](V& w) { visit_oci_worker(w, c.oci); });
    workers.table("containerd", [&](V& w) { visit_containerd_worker(w); });
  });
  v.table("registry", [&](V& registries) {
    registries.tables("HOST", c.registries,
                      [](V& r, registry_config& registry) { visit_registry(r, registry); });
  });
  v.table("dns", [&](V& dns) {
    dns.value({"nameservers", "", "name servers of build steps", "the machine's"}, plain{c.dns.nameservers});
    dns.value({"options", "", "resolver options of build steps", "the machine's"}, plain{c.dns.options});
    dns.value({"searchDomains", "", "search domains of build steps", "the machine's"},
              plain{c.dns.search_domains});
  });
  v.table("history", [&](V& history) {
    history.value({"maxAge", "", "finished builds are remembered this long"}, duration{c.history.max_age_ns});
    history.value({"maxEntries", "", "so many of the newest are remembered however old"},
                  number{c.history.max_entries});
  });
  v.table("frontend", [&](V& frontends) {
    frontends.table("dockerfile.v0", [&](V& f) {
      f.value({"enabled", "", "builds may use the Dockerfile frontend"},
              plain{c.frontends.dockerfile_enabled});
    });
    frontends.table("gateway.v0", [&](V& f) {
      f.value({"enabled", "", "builds may bring frontend images"}, plain{c.frontends.gateway_enabled});
      f.value({"allowedRepositories", "", "repositories that these may come from", "all"},
              plain{c.frontends.gateway_allowed_repositories});
    });
  });
  v.table("system", [&](V& system) {
    system.value(
        {"platformsCacheMaxAge", "",
         "after this, whoever lists workers has it tried again which platforms run here; negative: never"},
        duration{c.platforms_max_age_ns, platforms_max_age_least});
    system.value({"maxRegistryConcurrency", "", "transfers at a time with one registry"},
                 number{c.max_registry_concurrency, 1, registry_concurrency_max});
  });
  v.table("cache", [&](V& cache) { cache.table("gha", [&](V& gha) { visit_gha_cache(gha, c.gha_cache); }); });
  v.table("ghacache", [&](V& gha) { visit_gha_cache(gha, c.gha_cache); });
  v.table("cluster", [&](V& cluster) { visit_cluster(cluster, c.cluster); });
}

}  // namespace kiln::configs::settings
