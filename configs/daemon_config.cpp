#include "configs/daemon_config.hpp"

#include <algorithm>
#include <set>

#include <toml++/toml.h>

#include "base/duration.hpp"
#include "base/files.hpp"
#include "configs/daemon_settings.hpp"
#include "configs/units.hpp"
#include "messages/cluster_text.hpp"

namespace kiln::configs {

namespace {

using settings::raw_value;
using settings::setting;

constexpr std::int64_t config_bytes_max = 4 << 20;
constexpr std::size_t config_dots_max = 256;  // in a line

raw_value raw_of(const toml::node& node) {
  if (auto text = node.value_exact<std::string>()) return *text;
  if (auto number = node.value_exact<std::int64_t>()) return *number;
  if (auto truth = node.value_exact<bool>()) return *truth;
  if (const auto* array = node.as_array()) {
    std::vector<std::string> texts;
    for (const auto& element : *array) {
      auto text = element.value_exact<std::string>();
      if (!text) return {};
      texts.push_back(*text);
    }
    return texts;
  }
  if (const auto* table = node.as_table()) {
    std::map<std::string, std::string> texts;
    for (const auto& [key, element] : *table) {
      auto text = element.value_exact<std::string>();
      if (!text) return {};
      texts[std::string(key.str())] = *text;
    }
    return texts;
  }
  return {};
}

/// Reads one table as it is visited (configs/daemon_settings.hpp); what was not asked for in the end is
/// unknown. Of errors the first counts, and nothing is read after it.
class table_reader {
 public:
  struct outcome {
    std::string file;
    status first_error;
    std::vector<std::string> unknown_keys;
    std::vector<std::string> without_effect;
  };

  table_reader(const toml::table& table, std::string path, outcome& out)
      : table_(table), path_(std::move(path)), out_(out) {}

  ~table_reader() {
    for (const auto& [key, node] : table_)
      if (!known_.contains(std::string(key.str()))) out_.unknown_keys.push_back(where(key.str(), node));
  }
  table_reader(const table_reader&) = delete;
  table_reader& operator=(const table_reader&) = delete;

  template <class Kind>
  void value(const setting& about, const Kind& kind) {
    const auto* node = take(about.key);
    if (!node) return;
    auto raw = raw_of(*node);
    if constexpr (std::is_same_v<Kind, settings::lacking>) {
      if (!settings::asks(raw)) return;
      if (kind.asked == settings::lacking::answer::refuse)
        return fail(about.key, *node, ": " + std::string(about.does));
      out_.without_effect.push_back(where(about.key, *node) + ": " + std::string(about.does));
    } else if (auto wanted = kind.assign(raw)) {
      fail(about.key, *node, " must be " + *wanted);
    }
  }

  template <class Visit>
  void table(std::string_view key, const Visit& visit) {
    const auto* node = take(key);
    if (!node) return;
    if (!node->is_table()) return fail(key, *node, " must be a table");
    inside(*node->as_table(), key, visit);
  }

  template <class Row, class Visit>
  void rows(std::string_view key, std::vector<Row>& into, const Visit& visit) {
    const auto* node = take(key);
    if (!node) return;
    if (!node->is_array_of_tables()) return fail(key, *node, " must be an array of tables");
    for (const auto& element : *node->as_array())
      inside(*element.as_table(), key, [&](table_reader& row) { visit(row, into.emplace_back()); });
  }

  template <class Table, class Visit>
  void tables(std::string_view, std::map<std::string, Table>& into, const Visit& visit) {
    for (const auto& [key, node] : table_) {
      std::string name(key.str());
      known_.insert(name);
      if (!node.is_table()) return fail(name, node, " must be a table");
      inside(*node.as_table(), name, [&](table_reader& inner) { visit(inner, into[name]); });
    }
  }

 private:
  /// The key's value; null when it is absent, or no key at all, or something is wrong already.
  const toml::node* take(std::string_view key) {
    if (key.empty()) return nullptr;
    known_.insert(std::string(key));
    return out_.first_error.ok() ? table_.get(key) : nullptr;
  }

  template <class Visit>
  void inside(const toml::table& table, std::string_view key, const Visit& visit) {
    table_reader inner{table, full(key), out_};
    visit(inner);
  }

  std::string full(std::string_view key) const {
    return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
  }
  static std::string line(const toml::node& node) { return std::to_string(node.source().begin.line); }
  std::string where(std::string_view key, const toml::node& node) const {
    return full(key) + " (line " + line(node) + ")";
  }

  void fail(std::string_view key, const toml::node& node, const std::string& why) {
    if (out_.first_error.ok())
      out_.first_error =
          make_error(errc::invalid_argument, out_.file + ":" + line(node) + ": " + full(key) + why);
  }

  const toml::table& table_;
  std::string path_;
  outcome& out_;
  std::set<std::string> known_;
};

status validate_cluster(const cluster_config& c) {
  auto invalid = [](std::string text) {
    return make_error(errc::invalid_argument, "cluster " + std::move(text));
  };
  if (!c.name.empty() && !is_node_name(c.name))
    return invalid("name \"" + c.name + "\": expected 1 to " + std::to_string(cluster::name_bytes_max) +
                   " letters, digits, dots, dashes and underscores");
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
  if (c.dead_after_ns < cluster::heartbeats_before_dead_min * c.heartbeat_interval_ns)
    return invalid("dead after " + format_duration(c.dead_after_ns) + ": expected at least " +
                   std::to_string(cluster::heartbeats_before_dead_min) + " beat intervals");
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
  table_reader::outcome out{std::string(name), {}, {}, {}};
  {
    table_reader reader{table, "", out};
    settings::visit(reader, loaded.config);
  }
  KILN_CHECK(out.first_error);
  if (loaded.config.cdi_spec_dirs.empty()) loaded.config.cdi_spec_dirs = daemon_config{}.cdi_spec_dirs;
  std::sort(out.unknown_keys.begin(), out.unknown_keys.end());
  loaded.unknown_keys = std::move(out.unknown_keys);
  loaded.without_effect = std::move(out.without_effect);
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
  if (c.addresses.empty()) return invalid("no listen address: name at least one with --addr");
  for (const auto& address : c.addresses)
    if (address.find("://") == std::string::npos)
      return invalid("address \"" + address + "\" must contain ://, you mean unix://" + address + "?");
  if (c.tls.cert.empty() != c.tls.key.empty()) return invalid("tlscert and tlskey must be given together");
  if (c.oci.enabled == "false")
    return invalid("worker.oci.enabled (--oci-worker) is false: there is no other worker");
  for (const auto& [host, registry] : c.registries)
    if (registry.key_pairs.size() > 1)
      return invalid("registry.\"" + host + "\".keypair: there may be one pair for a registry");
  if (c.oci.no_process_sandbox && !c.oci.rootless)
    return invalid("can't enable NoProcessSandbox without Rootless");
  return validate_cluster(c.cluster);
}

result<std::vector<prune_rule>> gc_rules(const worker_config& worker, std::int64_t disk_total) {
  std::vector<prune_rule> rules;
  if (!worker.gc) return rules;
  auto bytes = [&](const std::string& text) -> result<std::int64_t> {
    if (text.empty()) return std::int64_t{0};
    return parse_disk_space(text, disk_total);
  };
  for (const auto& rule : worker.gc_policy) {
    prune_rule r{.filters = rule.filters, .all = rule.all, .keep_duration_ns = rule.keep_duration_ns};
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
  const prune_rule within_bounds{
      .reserved_space = reserved, .max_used_space = max_used, .min_free_space = min_free};
  rules.push_back({.filters = {"type==source.local", "type==exec.cachemount", "type==source.git.checkout"},
                   .keep_duration_ns = 48 * hour_ns,
                   .max_used_space = 512'000'000});
  rules.push_back(within_bounds);
  rules.back().keep_duration_ns = 60 * 24 * hour_ns;
  rules.push_back(within_bounds);
  rules.push_back(within_bounds);
  rules.back().all = true;
  return rules;
}

}  // namespace kiln::configs
