#include "workers/cdi/apply.hpp"

#include <algorithm>
#include <cerrno>

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/json_text.hpp"
#include "base/slash_path.hpp"

namespace kiln::workers::cdi {

namespace {

using nlohmann::json;

struct host_node {
  std::string type;
  std::int64_t major = 0;
  std::int64_t minor = 0;
  std::uint32_t mode = 0;
};

result<host_node> look_at(const std::string& path) {
  struct stat st {};
  if (::lstat(path.c_str(), &st) != 0)
    return errno_error(errno, "failed to stat CDI host device \"" + path + "\"");
  host_node out{"", major(st.st_rdev), minor(st.st_rdev), static_cast<std::uint32_t>(st.st_mode & ~S_IFMT)};
  if (S_ISBLK(st.st_mode)) out.type = "b";
  else if (S_ISCHR(st.st_mode)) out.type = "c";
  else if (S_ISFIFO(st.st_mode)) out.type = "p";
  else
    return make_error(errc::failed_precondition,
                      "failed to stat CDI host device \"" + path + "\": not a device node");
  return out;
}

status complete(device_node& d) {
  if (d.host_path.empty()) d.host_path = d.path;
  bool described = !d.type.empty() && (d.major != 0 || d.type == "p");
  auto host = look_at(d.host_path);
  if (!host.ok()) return described ? status{} : std::move(host).error();
  if (!d.file_mode) d.file_mode = host->mode;
  if (described) return {};
  if (d.type.empty()) d.type = host->type;
  if (d.type != host->type)
    return make_error(errc::failed_precondition, "CDI device \"" + d.path + "\" is of type " + d.type +
                                                     ", but \"" + d.host_path + "\" on the host of type " +
                                                     host->type);
  if (d.type == "p" || d.major != 0) return {};
  d.major = host->major;
  d.minor = host->minor;
  return {};
}

void put_variable(json& env, const std::string& variable) {
  auto name = variable.substr(0, variable.find('=') + 1);
  for (auto& e : env) {
    if (!text_value(e).starts_with(name)) continue;
    e = variable;
    return;
  }
  env.push_back(variable);
}

void remove_where(json& list, const char* key, const std::string& value) {
  if (!list.is_array()) return;
  list.erase(
      std::remove_if(list.begin(), list.end(), [&](const json& e) { return text_member(e, key) == value; }),
      list.end());
}

void put_device(json& oci_spec, const device_node& d) {
  json node{{"path", d.path}, {"type", d.type}, {"major", d.major}, {"minor", d.minor}};
  if (d.file_mode) node["fileMode"] = *d.file_mode;
  const auto& user = oci_spec["process"]["user"];
  auto owner = [&](const char* key, const std::optional<std::uint32_t>& own) {
    auto id = own ? *own : user.value(key, std::uint32_t{0});
    if (own || id != 0) node[key] = id;
  };
  owner("uid", d.uid);
  owner("gid", d.gid);
  auto& lin = oci_spec["linux"];
  remove_where(lin["devices"], "path", d.path);
  lin["devices"].push_back(std::move(node));
  if (d.type != "b" && d.type != "c") return;
  lin["resources"]["devices"].push_back({{"allow", true},
                                         {"type", d.type},
                                         {"major", d.major},
                                         {"minor", d.minor},
                                         {"access", d.permissions.empty() ? "rwm" : d.permissions}});
}

auto depth(const json& entry) {
  auto path = clean_absolute(text_member(entry, "destination"));
  return std::count(path.begin(), path.end(), '/');
}

void put_mounts(json& list, const std::vector<mount>& mounts) {
  for (const auto& m : mounts) {
    remove_where(list, "destination", m.container_path);
    json entry{{"destination", m.container_path}, {"source", m.host_path}};
    if (!m.type.empty()) entry["type"] = m.type;
    if (!m.options.empty()) entry["options"] = m.options;
    list.push_back(std::move(entry));
  }
  if (mounts.empty()) return;
  // A file below a directory that is mounted too must come after it.
  std::stable_sort(list.begin(), list.end(),
                   [](const json& a, const json& b) { return depth(a) < depth(b); });
}

json hook_object(const hook& h) {
  json out{{"path", h.path}};
  if (!h.args.empty()) out["args"] = h.args;
  if (!h.env.empty()) out["env"] = h.env;
  if (h.timeout_s) out["timeout"] = *h.timeout_s;
  return out;
}

json rdt_object(const intel_rdt& r) {
  json out = json::object();
  if (!r.clos_id.empty()) out["closID"] = r.clos_id;
  if (!r.l3_cache_schema.empty()) out["l3CacheSchema"] = r.l3_cache_schema;
  if (!r.memory_bandwidth_schema.empty()) out["memBwSchema"] = r.memory_bandwidth_schema;
  if (!r.schemata.empty()) out["schemata"] = r.schemata;
  if (r.monitoring) out["enableMonitoring"] = true;
  return out;
}

}  // namespace

status complete_device_nodes(container_edits& edits) {
  for (auto& d : edits.device_nodes) KILN_CHECK(complete(d));
  return {};
}

void apply_edits(const container_edits& edits, json& oci_spec) {
  for (const auto& variable : edits.env) put_variable(oci_spec["process"]["env"], variable);
  for (const auto& d : edits.device_nodes) put_device(oci_spec, d);
  for (const auto& n : edits.net_devices) oci_spec["linux"]["netDevices"][n.host_name] = {{"name", n.name}};
  put_mounts(oci_spec["mounts"], edits.mounts);
  for (const auto& h : edits.hooks) oci_spec["hooks"][h.name].push_back(hook_object(h));
  if (edits.rdt) oci_spec["linux"]["intelRdt"] = rdt_object(*edits.rdt);
  for (auto gid : edits.additional_gids) {
    auto& gids = oci_spec["process"]["user"]["additionalGids"];
    if (gid != 0 && std::find(gids.begin(), gids.end(), json(gid)) == gids.end()) gids.push_back(gid);
  }
}

}  // namespace kiln::workers::cdi
