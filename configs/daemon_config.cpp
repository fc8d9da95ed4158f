#include "configs/daemon_config.hpp"

#include <algorithm>
#include <chrono>
#include <functional>
#include <set>

#include <toml++/toml.h>

#include "base/duration.hpp"
#include "base/files.hpp"
#include "configs/units.hpp"
#include "messages/cluster_text.hpp"

namespace kiln::configs {

namespace {

constexpr std::int64_t config_bytes_max = 4 << 20;
constexpr std::size_t config_dots_max = 256;  // in a line

/// Reads one table, key by key; what was not asked for in the end is unknown.
class table_reader {
 public:
  table_reader(const toml::table& table, std::string path, std::string_view file,
               std::vector<std::string>& unknown)
      : table_(table), path_(std::move(path)), file_(file), unknown_(unknown) {}

  ~table_reader() {
    for (const auto& [key, node] : table_)
      if (!known_.count(std::string(key.str())))
        unknown_.push_back(where(key.str()) + " (line " + std::to_string(node.source().begin.line) + ")");
  }

  template <class T>
  status read(std::string_view key, T& into) {
    auto* node = take(key);
    if (!node) return {};
    if constexpr (std::is_same_v<T, std::vector<std::string>>) {
      return read_strings(key, *node, into);
    } else if constexpr (std::is_same_v<T, std::string>) {
      if (auto value = node->value<std::string>()) return into = *value, status{};
      return bad(key, *node, "a string");
    } else if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, std::optional<bool>>) {
      if (node->is_boolean()) return into = *node->value<bool>(), status{};
      return bad(key, *node, "true or false");
    } else {
      if (node->is_integer()) return assign_integer(into, *node->value<std::int64_t>(), key, *node);
      return bad(key, *node, "an integer");
    }
  }

  /// Strings, integers and booleans alike, as text.
  status read_text(std::string_view key, std::string& into) {
    auto* node = take(key);
    if (!node) return {};
    if (auto text = node->value_exact<std::string>()) return into = *text, status{};
    if (auto number = node->value_exact<std::int64_t>()) return into = std::to_string(*number), status{};
    if (auto truth = node->value_exact<bool>()) return into = *truth ? "true" : "false", status{};
    return bad(key, *node, "a value");
  }

  /// A Go duration, or whole seconds.
  status read_duration(std::string_view key, std::int64_t& into_ns) {
    auto* node = take(key);
    if (!node) return {};
    if (auto seconds = node->value_exact<std::int64_t>()) return into_ns = *seconds * 1'000'000'000, status{};
    auto text = node->value_exact<std::string>();
    if (!text) return bad(key, *node, "a duration");
    auto parsed = parse_duration(*text);
    if (!parsed.ok()) return bad(key, *node, "a duration such as \"48h\" or a number of seconds");
    into_ns = *parsed;
    return {};
  }

  status read_string_map(std::string_view key, std::map<std::string, std::string>& into) {
    auto* node = take(key);
    if (!node) return {};
    if (!node->is_table()) return bad(key, *node, "a table of strings");
    for (const auto& [k, v] : *node->as_table()) {
      auto text = v.value<std::string>();
      if (!text) return bad(key, v, "a table of strings");
      into[std::string(k.str())] = *text;
    }
    return {};
  }

  status table(std::string_view key, const std::function<status(table_reader&)>& f) {
    auto* node = take(key);
    if (!node) return {};
    if (!node->is_table()) return bad(key, *node, "a table");
    table_reader inner{*node->as_table(), where(key), file_, unknown_};
    return f(inner);
  }

  status each_table_of_array(std::string_view key, const std::function<status(table_reader&)>& f) {
    auto* node = take(key);
    if (!node) return {};
    if (!node->is_array_of_tables()) return bad(key, *node, "an array of tables");
    for (const auto& element : *node->as_array()) {
      table_reader inner{*element.as_table(), where(key), file_, unknown_};
      KILN_CHECK(f(inner));
    }
    return {};
  }

  status each_table(const std::function<status(const std::string&, table_reader&)>& f) {
    for (const auto& [key, node] : table_) {
      known_.insert(std::string(key.str()));
      if (!node.is_table()) return bad(key.str(), node, "a table");
      table_reader inner{*node.as_table(), where(key.str()), file_, unknown_};
      KILN_CHECK(f(std::string(key.str()), inner));
    }
    return {};
  }

  /// Accepted for compatibility, not used.
  void ignore(std::string_view key) { known_.insert(std::string(key)); }

 private:
  const toml::node* take(std::string_view key) {
    known_.insert(std::string(key));
    return table_.get(key);
  }

  std::string where(std::string_view key) const {
    return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
  }

  error bad(std::string_view key, const toml::node& node, std::string_view wanted) const {
    return make_error(errc::invalid_argument, file_ + ":" + std::to_string(node.source().begin.line) + ": " +
                                                  where(key) + " must be " + std::string(wanted));
  }

  template <class T>
  status assign_integer(T& into, std::int64_t value, std::string_view key, const toml::node& node) {
    if constexpr (std::is_same_v<T, int>) {
      if (value < 0 || value > 1'000'000'000) return bad(key, node, "a number from 0 to 1000000000");
      into = static_cast<int>(value);
    } else {
      into = value;
    }
    return {};
  }

  status read_strings(std::string_view key, const toml::node& node, std::vector<std::string>& into) {
    if (!node.is_array()) return bad(key, node, "an array of strings");
    into.clear();
    for (const auto& element : *node.as_array()) {
      auto text = element.value_exact<std::string>();
      if (!text) return bad(key, node, "an array of strings");
      into.push_back(*text);
    }
    return {};
  }

  const toml::table& table_;
  std::string path_;
  std::string file_;
  std::vector<std::string>& unknown_;
  std::set<std::string> known_;
};

status read_gc_rule(table_reader& t, gc_rule& rule) {
  std::string keep_bytes;
  KILN_CHECK(t.read("all", rule.all));
  KILN_CHECK(t.read("filters", rule.filters));
  KILN_CHECK(t.read_duration("keepDuration", rule.keep_duration_ns));
  KILN_CHECK(t.read_text("reservedSpace", rule.reserved_space));
  KILN_CHECK(t.read_text("maxUsedSpace", rule.max_used_space));
  KILN_CHECK(t.read_text("minFreeSpace", rule.min_free_space));
  KILN_CHECK(t.read_text("keepBytes", keep_bytes));
  if (rule.reserved_space.empty()) rule.reserved_space = keep_bytes;
  return {};
}

status read_worker(table_reader& t, worker_config& w) {
  std::string legacy_keep;
  KILN_CHECK(t.read_text("enabled", w.enabled));
  KILN_CHECK(t.read_string_map("labels", w.labels));
  KILN_CHECK(t.read("snapshotter", w.snapshotter));
  KILN_CHECK(t.read("platforms", w.platforms));
  KILN_CHECK(t.read("networkMode", w.network_mode));
  KILN_CHECK(t.read("cniConfigPath", w.cni_config_path));
  KILN_CHECK(t.read("cniBinaryPath", w.cni_binary_dir));
  KILN_CHECK(t.read("cniPoolSize", w.cni_pool_size));
  KILN_CHECK(t.read("bridgeName", w.bridge_name));
  KILN_CHECK(t.read("bridgeSubnet", w.bridge_subnet));
  KILN_CHECK(t.read("binary", w.binary));
  KILN_CHECK(t.read("apparmor-profile", w.apparmor_profile));
  KILN_CHECK(t.read("selinux", w.selinux));
  KILN_CHECK(t.read("max-parallelism", w.max_parallelism));
  KILN_CHECK(t.read("rootless", w.rootless));
  KILN_CHECK(t.read("noProcessSandbox", w.no_process_sandbox));
  KILN_CHECK(t.read("gc", w.gc));
  KILN_CHECK(t.read_text("reservedSpace", w.reserved_space));
  KILN_CHECK(t.read_text("maxUsedSpace", w.max_used_space));
  KILN_CHECK(t.read_text("minFreeSpace", w.min_free_space));
  KILN_CHECK(t.read_text("gckeepstorage", legacy_keep));
  if (w.reserved_space.empty()) w.reserved_space = legacy_keep;
  KILN_CHECK(t.read("defaultCgroupParent", w.default_cgroup_parent));
  KILN_CHECK(t.each_table_of_array(
      "gcpolicy", [&](table_reader& rule) { return read_gc_rule(rule, w.gc_policy.emplace_back()); }));
  for (auto key : {"proxySnapshotterPath", "stargzSnapshotter", "userRemapUnsupported", "address",
                   "namespace", "runtime"})
    t.ignore(key);
  return {};
}

status read_registry(table_reader& t, registry_config& r) {
  KILN_CHECK(t.read("mirrors", r.mirrors));
  KILN_CHECK(t.read("http", r.http));
  KILN_CHECK(t.read("insecure", r.insecure));
  KILN_CHECK(t.read("ca", r.ca));
  KILN_CHECK(t.read("tlsconfigdir", r.tls_config_dirs));
  return t.each_table_of_array("keypair", [&](table_reader& pair) -> status {
    auto& p = r.key_pairs.emplace_back();
    KILN_CHECK(pair.read("key", p.key));
    return pair.read("cert", p.cert);
  });
}

status read_grpc(table_reader& t, daemon_config& c) {
  KILN_CHECK(t.read("address", c.addresses));
  KILN_CHECK(t.read("debugAddress", c.debug_address));
  KILN_CHECK(t.read("uid", c.socket_uid));
  KILN_CHECK(t.read("gid", c.socket_gid));
  t.ignore("securityDescriptor");
  return t.table("tls", [&](table_reader& tls) -> status {
    KILN_CHECK(tls.read("cert", c.tls.cert));
    KILN_CHECK(tls.read("key", c.tls.key));
    return tls.read("ca", c.tls.ca);
  });
}

status read_cluster(table_reader& t, cluster_config& c) {
  KILN_CHECK(t.read("name", c.name));
  KILN_CHECK(t.read("listen", c.listen));
  KILN_CHECK(t.read("advertise", c.advertise));
  KILN_CHECK(t.read("dataPort", c.data_port));
  KILN_CHECK(t.read("seeds", c.seeds));
  KILN_CHECK(t.read("ca", c.ca));
  KILN_CHECK(t.read("cert", c.cert));
  KILN_CHECK(t.read("key", c.key));
  KILN_CHECK(t.read("role", c.role));
  KILN_CHECK(t.read_duration("beatInterval", c.heartbeat_interval_ns));
  KILN_CHECK(t.read_duration("deadAfter", c.dead_after_ns));
  KILN_CHECK(t.read_duration("peerAnswerTime", c.peer_answer_time_ns));
  KILN_CHECK(t.read_duration("drainGrace", c.drain_grace_ns));
  return t.read("slots", c.slots);
}

status validate_cluster(const cluster_config& c) {
  auto invalid = [](std::string text) {
    return make_error(errc::invalid_argument, "cluster " + std::move(text));
  };
  if (!c.name.empty() && !is_node_name(c.name))
    return invalid("name \"" + c.name + "\": expected 1 to " + std::to_string(cluster::name_bytes_max) +
                   " letters, digits, dots, dashes and underscores");
  if (!parse_node_role(c.role))
    return invalid("role \"" + c.role + "\": expected both, coordinator or worker");
  if (!c.on()) {
    if (!c.seeds.empty())
      return invalid("seeds are given but no listen address: a node of a cluster listens too");
    return {};
  }
  auto listen = parse_host_port(c.listen);
  if (!listen) return invalid("listen address \"" + c.listen + "\": expected host:port");
  if (c.advertise.empty() && is_wildcard(listen->host))
    return invalid("listen address \"" + c.listen +
                   "\" is every address: say by advertise which one others should use");
  if (!c.advertise.empty() && !parse_host_port(join_host_port(c.advertise, listen->port)))
    return invalid("advertise \"" + c.advertise + "\": expected a host without a port");
  int data_port = c.data_port == 0 ? listen->port + 1 : c.data_port;
  if (data_port > 65535 || data_port == listen->port)
    return invalid("data port " + std::to_string(data_port) + ": expected a port other than that of listen");
  for (const auto& seed : c.seeds)
    if (!parse_host_port(seed)) return invalid("seed \"" + seed + "\": expected host:port");
  for (const auto& [what, file] : {std::pair{"ca", &c.ca}, {"cert", &c.cert}, {"key", &c.key}})
    if (file->empty())
      return invalid(std::string(what) + " is missing: nodes know each other by certificates");
  struct range {
    const char* what;
    std::int64_t value_ns;
    std::chrono::nanoseconds least, most;
  };
  for (const auto& r :
       {range{"beat interval", c.heartbeat_interval_ns, cluster::heartbeat_interval_min,
              cluster::heartbeat_interval_max},
        range{"dead after", c.dead_after_ns, cluster::dead_after_min, cluster::dead_after_max},
        range{"peer answer time", c.peer_answer_time_ns, cluster::peer_answer_time_min,
              cluster::peer_answer_time_max},
        range{"drain grace", c.drain_grace_ns, cluster::drain_grace_min, cluster::drain_grace_max}})
    if (r.value_ns < r.least.count() || r.value_ns > r.most.count())
      return invalid(std::string(r.what) + " " + format_duration(r.value_ns) + ": expected " +
                     format_duration(r.least.count()) + " to " + format_duration(r.most.count()));
  if (c.dead_after_ns < cluster::heartbeats_before_dead_min * c.heartbeat_interval_ns)
    return invalid("dead after " + format_duration(c.dead_after_ns) + ": expected at least " +
                   std::to_string(cluster::heartbeats_before_dead_min) + " beat intervals");
  if (c.slots > cluster::slots_max)
    return invalid("slots: expected at most " + std::to_string(cluster::slots_max));
  return {};
}

status read_all(table_reader& t, daemon_config& c) {
  bool debug = false;
  bool trace = false;
  KILN_CHECK(t.read("debug", debug));
  KILN_CHECK(t.read("trace", trace));
  if (debug) c.log_level = "debug";
  if (trace) c.log_level = "trace";
  KILN_CHECK(t.read("root", c.root));
  KILN_CHECK(t.read("insecure-entitlements", c.insecure_entitlements));
  KILN_CHECK(t.read("provenanceEnvDir", c.provenance_env_dir));
  t.ignore("proxyNetwork");
  KILN_CHECK(t.table("log", [&](table_reader& log) -> status {
    KILN_CHECK(log.read("level", c.log_level));
    return log.read("format", c.log_format);
  }));
  KILN_CHECK(t.table("grpc", [&](table_reader& grpc) { return read_grpc(grpc, c); }));
  KILN_CHECK(
      t.table("otel", [&](table_reader& otel) { return otel.read("socketPath", c.otel_socket_path); }));
  KILN_CHECK(t.table("cdi", [&](table_reader& cdi) -> status {
    KILN_CHECK(cdi.read("autoAllowed", c.cdi_auto_allowed));
    KILN_CHECK(cdi.read("disabled", c.cdi_disabled));
    KILN_CHECK(cdi.read("specDirs", c.cdi_spec_dirs));
    if (c.cdi_spec_dirs.empty()) c.cdi_spec_dirs = daemon_config{}.cdi_spec_dirs;
    return {};
  }));
  KILN_CHECK(t.table("worker", [&](table_reader& workers) -> status {
    KILN_CHECK(workers.table("oci", [&](table_reader& w) { return read_worker(w, c.oci); }));
    return workers.table("containerd", [&](table_reader& w) { return read_worker(w, c.containerd); });
  }));
  KILN_CHECK(t.table("registry", [&](table_reader& registries) {
    return registries.each_table(
        [&](const std::string& host, table_reader& r) { return read_registry(r, c.registries[host]); });
  }));
  KILN_CHECK(t.table("dns", [&](table_reader& dns) -> status {
    KILN_CHECK(dns.read("nameservers", c.dns.nameservers));
    KILN_CHECK(dns.read("options", c.dns.options));
    return dns.read("searchDomains", c.dns.search_domains);
  }));
  KILN_CHECK(t.table("history", [&](table_reader& history) -> status {
    KILN_CHECK(history.read_duration("maxAge", c.history.max_age_ns));
    return history.read("maxEntries", c.history.max_entries);
  }));
  KILN_CHECK(t.table("cluster", [&](table_reader& cluster) { return read_cluster(cluster, c.cluster); }));
  KILN_CHECK(t.table("frontend", [&](table_reader& frontends) -> status {
    KILN_CHECK(frontends.table(
        "dockerfile.v0", [&](table_reader& f) { return f.read("enabled", c.frontends.dockerfile_enabled); }));
    return frontends.table("gateway.v0", [&](table_reader& f) -> status {
      KILN_CHECK(f.read("enabled", c.frontends.gateway_enabled));
      return f.read("allowedRepositories", c.frontends.gateway_allowed_repositories);
    });
  }));
  KILN_CHECK(t.table("system", [&](table_reader& system) -> status {
    system.ignore("platformsCacheMaxAge");
    return system.read("maxRegistryConcurrency", c.max_registry_concurrency);
  }));
  t.ignore("cache");
  t.ignore("ghacache");
  return {};
}

/// The library takes a table for each part of a dotted key, by recursion.
status check_dots(std::string_view text, std::string_view name) {
  std::size_t line = 1, dots = 0;
  for (char c : text) {
    if (c == '\n') {
      ++line;
      dots = 0;
    } else if (c == '.' && ++dots > config_dots_max) {
      return make_error(errc::invalid_argument, std::string(name) + ":" + std::to_string(line) +
                                                    ": more than " + std::to_string(config_dots_max) +
                                                    " dots in a line");
    }
  }
  return {};
}

}  // namespace

result<loaded_config> parse_config(std::string_view text, std::string_view name) {
  KILN_CHECK(check_dots(text, name));
  toml::table table;
  try {
    table = toml::parse(text, name);
  } catch (const toml::parse_error& e) {
    return make_error(errc::invalid_argument, std::string(name) + ":" +
                                                  std::to_string(e.source().begin.line) + ": " +
                                                  std::string(e.description()));
  }
  loaded_config loaded;
  {
    table_reader reader{table, "", name, loaded.unknown_keys};
    KILN_CHECK(read_all(reader, loaded.config));
  }
  std::sort(loaded.unknown_keys.begin(), loaded.unknown_keys.end());
  return loaded;
}

result<loaded_config> load_config(const std::filesystem::path& file) {
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return loaded_config{};
  KILN_TRY(auto text, read_file(file, config_bytes_max));
  return parse_config(text, file.string());
}

status validate(const daemon_config& c) {
  auto invalid = [](std::string text) { return make_error(errc::invalid_argument, std::move(text)); };
  static const std::set<std::string> levels = {"error", "warn", "warning", "info", "debug", "trace"};
  if (!levels.count(c.log_level))
    return invalid("log level \"" + c.log_level + "\": expected error, warn, info, debug or trace");
  if (c.log_format != "text" && c.log_format != "json")
    return invalid("unsupported log type \"" + c.log_format + "\": expected text or json");
  static const std::set<std::string> entitlements = {"network.host", "security.insecure", "device"};
  for (const auto& e : c.insecure_entitlements)
    if (!entitlements.count(e))
      return invalid("invalid entitlement \"" + e + "\": expected network.host, security.insecure or device");
  constexpr std::int64_t ids_max = 0xfffffffe;  // the one beyond means "leave as it is" to the system
  for (auto [key, id] : {std::pair{"uid", c.socket_uid}, std::pair{"gid", c.socket_gid}})
    if (id && (*id < 0 || *id > ids_max))
      return invalid(std::string("grpc.") + key + " " + std::to_string(*id) + ": expected 0 to " +
                     std::to_string(ids_max));
  if (c.addresses.empty()) return invalid("no listen address: name at least one with --addr");
  for (const auto& address : c.addresses)
    if (address.find("://") == std::string::npos)
      return invalid("address \"" + address + "\" must contain ://, you mean unix://" + address + "?");
  if (c.tls.cert.empty() != c.tls.key.empty()) return invalid("tlscert and tlskey must be given together");
  for (const auto* w : {&c.oci, &c.containerd}) {
    static const std::set<std::string> modes = {"auto", "bridge", "cni", "host"};
    if (!modes.count(w->network_mode)) return invalid("invalid network mode \"" + w->network_mode + "\"");
    static const std::set<std::string> switches = {"auto", "true", "false"};
    if (!switches.count(w->enabled))
      return invalid("worker switch \"" + w->enabled + "\": expected true, false or auto");
  }
  if (c.oci.no_process_sandbox && !c.oci.rootless)
    return invalid("can't enable NoProcessSandbox without Rootless");
  return validate_cluster(c.cluster);
}

result<std::vector<resolved_gc_rule>> gc_rules(const worker_config& worker, std::int64_t disk_total) {
  std::vector<resolved_gc_rule> rules;
  if (!worker.gc) return rules;
  auto bytes = [&](const std::string& text) -> result<std::int64_t> {
    if (text.empty()) return std::int64_t{0};
    return parse_disk_space(text, disk_total);
  };
  for (const auto& rule : worker.gc_policy) {
    resolved_gc_rule r{rule.all, rule.filters, rule.keep_duration_ns, 0, 0, 0};
    KILN_TRY(r.reserved_space, bytes(rule.reserved_space));
    KILN_TRY(r.max_used_space, bytes(rule.max_used_space));
    KILN_TRY(r.min_free_space, bytes(rule.min_free_space));
    rules.push_back(std::move(r));
  }
  if (!rules.empty()) return rules;

  KILN_TRY(auto reserved, bytes(worker.reserved_space));
  KILN_TRY(auto max_used, bytes(worker.max_used_space));
  KILN_TRY(auto min_free, bytes(worker.min_free_space));
  if (reserved == 0 && max_used == 0 && min_free == 0) {
    KILN_TRY(auto tenth, parse_disk_space("10%", disk_total));
    KILN_TRY(auto most, parse_disk_space("80%", disk_total));
    KILN_TRY(min_free, parse_disk_space("20%", disk_total));
    reserved = std::min<std::int64_t>(tenth, 10'000'000'000);
    max_used = std::min<std::int64_t>(most, 100'000'000'000);
  }
  constexpr std::int64_t hour_ns = 3600LL * 1'000'000'000;
  rules.push_back({false,
                   {"type==source.local", "type==exec.cachemount", "type==source.git.checkout"},
                   48 * hour_ns,
                   0,
                   512'000'000,
                   0});
  rules.push_back({false, {}, 60 * 24 * hour_ns, reserved, max_used, min_free});
  rules.push_back({false, {}, 0, reserved, max_used, min_free});
  rules.push_back({true, {}, 0, reserved, max_used, min_free});
  return rules;
}

}  // namespace kiln::configs
