// The daemon's settings: defaults, then the TOML file, then flags. What each is for, what it may be and how
// it is called stands in configs/daemon_settings.hpp, and for users in docs/configuration.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "configs/cluster.hpp"
#include "configs/history.hpp"
#include "configs/platforms.hpp"
#include "configs/registry.hpp"
#include "messages/prune_rule.hpp"

namespace kiln::configs {

struct tls_config {
  std::string cert;
  std::string key;
  std::string ca;
};

/// One `[[worker.*.gcpolicy]]` rule. Sizes are texts until the disk is known (see parse_disk_space).
struct gc_rule {
  bool all = false;
  std::vector<std::string> filters;
  std::int64_t keep_duration_ns = 0;
  std::string reserved_space;
  std::string max_used_space;
  std::string min_free_space;
};

struct worker_config {
  std::string enabled = "auto";  // true, false, auto
  std::map<std::string, std::string> labels;
  std::string snapshotter = "auto";
  std::vector<std::string> platforms;  // empty: detected
  std::string network_mode = "auto";   // auto, bridge, cni, host
  std::string cni_config_path = "/etc/buildkit/cni.json";
  std::string cni_binary_dir = "/opt/cni/bin";
  int cni_pool_size = 0;
  std::string bridge_name = "buildkit0";  // of network mode bridge
  std::string bridge_subnet = "10.10.0.0/16";
  std::string binary;  // runtime; empty: crun, else runc
  std::string apparmor_profile;
  int max_parallelism = 0;  // 0: unlimited
  bool rootless = false;
  bool no_process_sandbox = false;
  bool gc = true;
  std::vector<gc_rule> gc_policy;  // empty: the default policy
  std::string reserved_space;
  std::string max_used_space;
  std::string min_free_space;
  std::string default_cgroup_parent;
};

struct registry_config {
  std::vector<std::string> mirrors;
  std::optional<bool> http;
  std::optional<bool> insecure;
  std::vector<std::string> ca;
  struct key_pair {
    std::string key;
    std::string cert;
  };
  std::vector<key_pair> key_pairs;
  std::vector<std::string> tls_config_dirs;
};

struct dns_config {
  std::vector<std::string> nameservers;
  std::vector<std::string> options;
  std::vector<std::string> search_domains;
};

struct history_config {
  std::int64_t max_age_ns = std::chrono::nanoseconds{history::age_max}.count();
  int max_entries = history::entries_max;
};

struct frontend_config {
  bool dockerfile_enabled = true;
  bool gateway_enabled = true;
  std::vector<std::string> gateway_allowed_repositories;
};

/// `[cluster]`: builds shared with other nodes (docs/cluster.md). Off unless `listen` is set.
struct cluster_config {
  std::string name;       // of this node; empty: the host name
  std::string listen;     // host:port of its actors
  std::string advertise;  // host that others reach it by; empty: the host of `listen`
  int data_port = 0;      // of its peer service, on the host of `listen`; 0: the port after that of `listen`
  std::vector<std::string> seeds;  // host:port; a name that resolves to many addresses means all of them
  std::string ca;                  // PEM files; every node has a certificate of the same CA
  std::string cert;
  std::string key;
  std::string role = "both";  // both, coordinator, worker
  std::int64_t heartbeat_interval_ns = cluster::heartbeat_interval.count();
  std::int64_t dead_after_ns = cluster::dead_after.count();
  std::int64_t peer_answer_time_ns = cluster::peer_answer_time.count();
  std::int64_t drain_grace_ns = cluster::drain_grace.count();
  int slots = 0;  // ops at a time for everybody together; 0: worker.oci.max-parallelism, else 2 a core

  bool on() const { return !listen.empty(); }
};

/// `[cache.gha]`: signatures of caches in GitHub's Actions cache. Signed caches are kept apart from others.
struct gha_cache_config {
  std::vector<std::string> sign_command;  // gets the index, writes a Sigstore bundle; empty: not signed
  bool verify = false;                    // caches without a good signature are refused
  int times_min = 0;                      // who must have told when it was signed
  int log_times_min = 0;                  // transparency logs among them
  std::map<std::string, std::string> certificate;  // field of the signer's certificate → pattern
  std::string trusted_root;                        // file; empty: where Sigstore's clients keep it

  bool signed_caches() const { return !sign_command.empty() || verify; }
};

struct daemon_config {
  std::string log_level = "info";   // error, warn, info, debug, trace
  std::string log_format = "text";  // text, json
  std::string root = "/var/lib/buildkit";
  std::vector<std::string> addresses{"unix:///run/buildkit/buildkitd.sock"};
  std::string group;  // of unix sockets: name or gid
  std::optional<std::int64_t> socket_uid;
  std::optional<std::int64_t> socket_gid;
  tls_config tls;
  std::vector<std::string> insecure_entitlements;
  bool proxy_network = false;  // for all builds
  worker_config oci;
  std::map<std::string, registry_config> registries;
  dns_config dns;
  history_config history;
  cluster_config cluster;
  frontend_config frontends;
  gha_cache_config gha_cache;
  int max_registry_concurrency = registry_concurrency;
  std::int64_t platforms_max_age_ns = platforms_max_age.count();  // negative: for ever
  std::string provenance_env_dir = "/etc/buildkit/provenance.d";
  bool cdi_disabled = false;
  std::vector<std::string> cdi_spec_dirs{"/etc/cdi", "/var/run/cdi", "/etc/buildkit/cdi"};
  std::vector<std::string> cdi_auto_allowed;  // devices and kinds every build may have
};

/// What was read, what in the file nobody knows ("worker.oci.snapshoter (line 4)"), and what in it has no
/// effect
/// ("otel.socketPath (line 9): socket for …").
struct loaded_config {
  daemon_config config;
  std::vector<std::string> unknown_keys;
  std::vector<std::string> without_effect;
  std::vector<std::string> outdated;  // "debug (line 1): say log.level instead"
};

/// Reads a config file over the defaults. A missing file gives the defaults. Errors name file, line and key.
result<loaded_config> load_config(const std::filesystem::path& file);
/// The same from text; `name` stands for the file in errors.
result<loaded_config> parse_config(std::string_view text, std::string_view name);

/// Checks what no setting says alone: addresses, certificate and key together, the cluster.
status validate(const daemon_config& config);

/// The GC rules in force: the configured ones, or the four default rules for this disk. Empty when GC
/// is off. Source: BuildKit cmd/buildkitd/config/gcpolicy.go.
result<std::vector<prune_rule>> gc_rules(const worker_config& worker, std::int64_t disk_total);

}  // namespace kiln::configs
