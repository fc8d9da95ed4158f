#include "frontends/dockerfile/options.hpp"

#include <arpa/inet.h>

#include "base/csv.hpp"
#include "base/json_text.hpp"
#include "configs/frontends.hpp"
#include "frontends/dockerfile/refusal.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace {

std::string value_of(const option_map& options, const std::string& key) {
  auto at = options.find(key);
  return at == options.end() ? std::string() : at->second;
}

error not_a_number(const std::string& text) {
  return invalid("strconv.ParseInt: parsing " + quote(text) + ": invalid syntax");
}

result<std::vector<kiln::platform>> read_platforms(const std::string& text) {
  std::vector<kiln::platform> out;
  if (text.empty()) return out;
  for (const auto& part : split(text, ',')) {
    auto parsed = parse_platform(part);
    if (!parsed) return std::move(parsed).error().with_context("failed to parse target platform " + part);
    out.push_back(normalize(*std::move(parsed)));
  }
  return out;
}

// The canonical text of an address, or nothing.
std::optional<std::string> canonical_address(const std::string& text) {
  unsigned char bytes[16];
  char buffer[INET6_ADDRSTRLEN];
  for (int family : {AF_INET, AF_INET6})
    if (inet_pton(family, text.c_str(), bytes) == 1) return inet_ntop(family, bytes, buffer, sizeof buffer);
  return std::nullopt;
}

result<std::vector<std::pair<std::string, std::string>>> read_hosts(const std::string& text) {
  std::vector<std::pair<std::string, std::string>> out;
  if (text.empty()) return out;
  KILN_TRY(auto fields, split_csv(text));
  for (const auto& field : fields) {
    auto [host, address, found] = cut(to_lower(field), "=");
    if (!found) return invalid("invalid key-value pair " + field);
    auto canonical = canonical_address(address);
    if (!canonical) return invalid("failed to parse IP " + address);
    out.emplace_back(host, *canonical);
  }
  return out;
}

result<pb::Ulimit> read_ulimit(const std::string& text) {
  static const std::set<std::string> names{"core",    "cpu",      "data",   "fsize",      "locks",
                                           "memlock", "msgqueue", "nice",   "nofile",     "nproc",
                                           "rss",     "rtprio",   "rttime", "sigpending", "stack"};
  auto [name, limits, found] = cut(text, "=");
  if (!found) return invalid("invalid ulimit argument: " + text);
  if (!names.contains(name)) return invalid("invalid ulimit type: " + name);
  auto parts = split(limits, ':');
  if (parts.size() > 2)
    return invalid("too many limit value arguments - " + limits + ", can only have up to two, `soft[:hard]`");
  auto soft = parse_int(parts[0]);
  auto hard = parts.size() == 2 ? parse_int(parts[1]) : soft;
  if (!hard) return not_a_number(parts.back());
  if (!soft) return not_a_number(parts[0]);
  if (*hard != -1 && (*soft == -1 || *soft > *hard)) {
    auto compared = *soft == -1 ? "soft: -1 (unlimited), hard: " + std::to_string(*hard)
                                : std::to_string(*soft) + " > " + std::to_string(*hard);
    return invalid("ulimit soft limit must be less than or equal to hard limit: " + compared);
  }
  pb::Ulimit out;
  out.set_name(name);
  out.set_soft(*soft);
  out.set_hard(*hard);
  return out;
}

status check_cpuset(const std::string& text) {
  for (const auto& raw : split(text, ',')) {
    std::string part(trim_space(raw));
    if (part.empty()) continue;
    auto [low_text, high_text, is_range] = cut(part, "-");
    auto low = parse_int(trim_space(low_text));
    if (!is_range) {
      if (!low || *low < 0) return invalid("invalid cpuset element " + quote(part));
      if (*low > configs::cpuset_max)
        return invalid("cpuset element " + quote(part) + " exceeds maximum " +
                       std::to_string(configs::cpuset_max));
      continue;
    }
    auto high = parse_int(trim_space(high_text));
    if (!low || !high || *low < 0 || *high < *low) return invalid("invalid cpuset range " + quote(part));
    if (*high > configs::cpuset_max)
      return invalid("cpuset range " + quote(part) + " exceeds maximum " +
                     std::to_string(configs::cpuset_max));
  }
  return {};
}

result<std::optional<pb::LinuxResources>> read_resources(const option_map& options) {
  pb::LinuxResources out;
  // Reads a whole number; -1 is allowed where it means unlimited.
  auto number = [&](const char* key, bool may_be_unlimited,
                    bool is_unsigned = false) -> result<std::int64_t> {
    auto text = value_of(options, key);
    if (text.empty()) return std::int64_t{0};
    auto prefix = "invalid " + std::string(key) + " value: " + text;
    auto value = parse_int(text);
    if (is_unsigned && (!value || *value < 0))
      return invalid(prefix + ": strconv.ParseUint: parsing " + quote(text) + ": invalid syntax");
    if (!value) return invalid(prefix + ": " + not_a_number(text).message);
    if (may_be_unlimited && (*value < -1 || *value == 0))
      return invalid(prefix + ": must be -1 (unlimited) or > 0");
    if (!may_be_unlimited && *value <= 0) return invalid(prefix + ": must be > 0");
    return *value;
  };
  auto cpus = [&](const char* key) -> result<std::string> {
    auto text = value_of(options, key);
    if (auto checked = check_cpuset(text); !checked)
      return std::move(checked).error().with_context("invalid " + std::string(key) + " value: " + text);
    return text;
  };
  KILN_TRY(auto memory, number("memory", false));
  KILN_TRY(auto swap, number("memswap", true));
  KILN_TRY(auto shares, number("cpushares", false, true));
  KILN_TRY(auto period, number("cpuperiod", false, true));
  KILN_TRY(auto quota, number("cpuquota", false));
  KILN_TRY(auto cpu_set, cpus("cpusetcpus"));
  KILN_TRY(auto memory_set, cpus("cpusetmems"));
  out.set_memory(memory);
  out.set_memoryswap(swap);
  out.set_cpushares(static_cast<std::uint64_t>(shares));
  out.set_cpuperiod(static_cast<std::uint64_t>(period));
  out.set_cpuquota(quota);
  out.set_cpusetcpus(cpu_set);
  out.set_cpusetmems(memory_set);
  if (out.ByteSizeLong() == 0) return std::optional<pb::LinuxResources>{};
  return std::optional(out);
}

result<pb::NetMode> read_network(const std::string& text) {
  if (text.empty() || text == "sandbox") return pb::NetMode::UNSET;
  if (text == "host") return pb::NetMode::HOST;
  if (text == "none") return pb::NetMode::NONE;
  return invalid("invalid netmode " + text);
}

status read_cache_imports(build_options& out) {
  if (auto text = value_of(out.all, "cache-imports"); !text.empty()) {
    auto list = json_or_null(text);
    if (!list.is_array()) return invalid("failed to unmarshal cache-imports (" + quote(text) + ")");
    for (const auto& item : list) {
      auto& entry = out.cache_imports.emplace_back();
      if (!item.is_object()) return invalid("failed to unmarshal cache-imports (" + quote(text) + ")");
      entry.set_type(text_member(item, "Type"));
      if (const auto* attrs = member_of(item, "Attrs"))
        for (const auto& [key, value] : text_members(*attrs)) (*entry.mutable_attrs())[key] = value;
    }
  }
  if (auto text = value_of(out.all, "cache-from"); !text.empty()) {
    for (const auto& ref : split(text, ',')) {
      auto& entry = out.cache_imports.emplace_back();
      entry.set_type("registry");
      (*entry.mutable_attrs())["ref"] = ref;
    }
  }
  return {};
}

status refuse_removed(const option_map& options) {
  if (!value_of(options, "override-copy-image").empty())
    return invalid("support for \"override-copy-image\" was removed in BuildKit 0.11");
  if (parse_bool(value_of(options, "build-arg:BUILDKIT_DISABLE_FILEOP")).value_or(false))
    return invalid("support for \"BUILDKIT_DISABLE_FILEOP\" build-arg was removed in BuildKit 0.11");
  return {};
}

status read_multi_platform(build_options& out) {
  out.multi_platform = out.platforms.size() > 1;
  if (auto alias = value_of(out.all, "build-arg:BUILDKIT_MULTI_PLATFORM"); !alias.empty())
    out.all["multi-platform"] = alias;
  auto text = value_of(out.all, "multi-platform");
  if (text.empty()) return {};
  auto flag = parse_bool(text);
  if (!flag) return invalid("invalid boolean value for multi-platform: " + text);
  if (!*flag && out.multi_platform)
    return invalid("conflicting config: returning multiple target platforms is not allowed");
  out.multi_platform = *flag;
  return {};
}

}  // namespace

option_map with_prefix(const option_map& options, const std::string& prefix) {
  option_map out;
  for (auto at = options.lower_bound(prefix); at != options.end() && at->first.starts_with(prefix); ++at)
    out[at->first.substr(prefix.size())] = at->second;
  return out;
}

bool build_options::is_no_cache(const std::string& stage_name) const {
  if (!no_cache) return false;
  if (no_cache->empty()) return true;
  for (const auto& name : *no_cache)
    if (equal_fold(name, stage_name)) return true;
  return false;
}

result<build_options> parse_build_options(const option_map& options) {
  KILN_CHECK(refuse_removed(options));
  build_options out;
  out.all = options;
  KILN_TRY(out.platforms, read_platforms(value_of(options, "platform")));
  if (auto mode = value_of(options, "image-resolve-mode"); !mode.empty()) {
    if (mode != "default" && mode != "pull" && mode != "local")
      return invalid("invalid image-resolve-mode: " + mode);
    out.image_resolve_mode = mode;
  }
  auto hosts = read_hosts(value_of(options, "add-hosts"));
  if (!hosts) return std::move(hosts).error().with_context("failed to parse additional hosts");
  out.extra_hosts = *std::move(hosts);
  if (auto text = value_of(options, "shm-size"); !text.empty()) {
    auto size = parse_int(text);
    if (!size) return not_a_number(text).with_context("failed to parse shm size");
    out.shm_size = *size;
  }
  if (auto text = value_of(options, "ulimit"); !text.empty()) {
    auto fields = split_csv(text);
    if (!fields) return std::move(fields).error().with_context("failed to parse ulimit");
    for (const auto& field : *fields) {
      auto limit = read_ulimit(field);
      if (!limit) return std::move(limit).error().with_context("failed to parse ulimit");
      out.ulimits.push_back(*std::move(limit));
    }
  }
  auto resources = read_resources(options);
  if (!resources) return std::move(resources).error().with_context("failed to parse resource limits");
  out.resources = *std::move(resources);
  KILN_TRY(out.network, read_network(value_of(options, "force-network-mode")));
  if (auto at = options.find("no-cache"); at != options.end())
    out.no_cache = at->second.empty() ? std::vector<std::string>{} : split(at->second, ',');
  KILN_CHECK(read_multi_platform(out));
  KILN_CHECK(read_cache_imports(out));
  KILN_TRY(auto attestations, frontends::parse_attestations(out.all));
  KILN_TRY(out.sbom, frontends::sbom_wanted(attestations));
  out.build_args = with_prefix(options, "build-arg:");
  out.labels = with_prefix(options, "label:");
  out.cache_namespace = value_of(options, "build-arg:BUILDKIT_CACHE_MOUNT_NS");
  out.cgroup_parent = value_of(options, "cgroup-parent");
  out.target = value_of(options, "target");
  out.hostname = value_of(options, "build-arg:BUILDKIT_SANDBOX_HOSTNAME");
  if (out.hostname.empty()) out.hostname = value_of(options, "hostname");
  if (auto at = options.find("build-arg:BUILDKIT_DOCKERFILE_CHECK"); at != options.end()) {
    auto check = parse_lint_options(at->second);
    if (!check)
      return std::move(check).error().with_context("failed to parse build-arg:BUILDKIT_DOCKERFILE_CHECK");
    out.check = *std::move(check);
  }
  return out;
}

}  // namespace kiln::dockerfile
