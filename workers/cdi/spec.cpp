#include "workers/cdi/spec.hpp"

#include "configs/cdi.hpp"
#include "workers/cdi/yaml_fields.hpp"

namespace kiln::workers::cdi {

namespace {

status read_device_node(yaml_fields& f, device_node& out) {
  KILN_CHECK(f.text("path", out.path));
  KILN_CHECK(f.text("hostPath", out.host_path));
  KILN_CHECK(f.text("type", out.type));
  KILN_CHECK(f.number("major", out.major));
  KILN_CHECK(f.number("minor", out.minor));
  KILN_CHECK(f.number("fileMode", out.file_mode));
  KILN_CHECK(f.text("permissions", out.permissions));
  KILN_CHECK(f.number("uid", out.uid));
  return f.number("gid", out.gid);
}

status read_mount(yaml_fields& f, mount& out) {
  KILN_CHECK(f.text("hostPath", out.host_path));
  KILN_CHECK(f.text("containerPath", out.container_path));
  KILN_CHECK(f.texts("options", out.options));
  return f.text("type", out.type);
}

status read_hook(yaml_fields& f, hook& out) {
  KILN_CHECK(f.text("hookName", out.name));
  KILN_CHECK(f.text("path", out.path));
  KILN_CHECK(f.texts("args", out.args));
  KILN_CHECK(f.texts("env", out.env));
  return f.number("timeout", out.timeout_s);
}

status read_rdt(yaml_fields& f, intel_rdt& out) {
  KILN_CHECK(f.text("closID", out.clos_id));
  KILN_CHECK(f.text("l3CacheSchema", out.l3_cache_schema));
  KILN_CHECK(f.text("memBwSchema", out.memory_bandwidth_schema));
  KILN_CHECK(f.texts("schemata", out.schemata));
  return f.flag("enableMonitoring", out.monitoring);
}

status read_net_device(yaml_fields& f, net_device& out) {
  KILN_CHECK(f.text("hostInterfaceName", out.host_name));
  return f.text("name", out.name);
}

status read_edits(yaml_fields& f, container_edits& out) {
  KILN_CHECK(f.texts("env", out.env));
  KILN_CHECK(
      f.each("deviceNodes", [&](auto& g) { return read_device_node(g, out.device_nodes.emplace_back()); }));
  KILN_CHECK(
      f.each("netDevices", [&](auto& g) { return read_net_device(g, out.net_devices.emplace_back()); }));
  KILN_CHECK(f.each("hooks", [&](auto& g) { return read_hook(g, out.hooks.emplace_back()); }));
  KILN_CHECK(f.each("mounts", [&](auto& g) { return read_mount(g, out.mounts.emplace_back()); }));
  KILN_CHECK(f.one("intelRdt", [&](auto& g) { return read_rdt(g, out.rdt.emplace()); }));
  return f.numbers("additionalGids", out.additional_gids);
}

status read_device(yaml_fields& f, spec_device& out) {
  KILN_CHECK(f.text("name", out.name));
  KILN_CHECK(f.text_map("annotations", out.annotations));
  return f.one("containerEdits", [&](auto& g) { return read_edits(g, out.edits); });
}

result<spec> read_spec(const YAML::Node& root) {
  if (!root.IsDefined() || root.IsNull()) return make_error(errc::invalid_argument, "no spec data");
  spec out;
  KILN_TRY(auto f, yaml_fields::of(root, ""));
  KILN_CHECK(f.text("cdiVersion", out.version));
  KILN_CHECK(f.text("kind", out.kind));
  KILN_CHECK(f.text_map("annotations", out.annotations));
  KILN_CHECK(f.each("devices", [&](auto& g) { return read_device(g, out.devices.emplace_back()); }));
  KILN_CHECK(f.one("containerEdits", [&](auto& g) { return read_edits(g, out.edits); }));
  KILN_CHECK(f.finish());
  return out;
}

template <class T>
void append_to(std::vector<T>& list, const std::vector<T>& more) {
  list.insert(list.end(), more.begin(), more.end());
}

}  // namespace

bool container_edits::empty() const {
  return env.empty() && device_nodes.empty() && net_devices.empty() && hooks.empty() && mounts.empty() &&
         !rdt && additional_gids.empty();
}

void container_edits::append(const container_edits& more) {
  append_to(env, more.env);
  append_to(device_nodes, more.device_nodes);
  append_to(net_devices, more.net_devices);
  append_to(hooks, more.hooks);
  append_to(mounts, more.mounts);
  if (more.rdt) rdt = more.rdt;
  append_to(additional_gids, more.additional_gids);
}

result<spec> parse_spec(std::string_view text) {
  if (text.size() > configs::cdi_spec_bytes_max)
    return make_error(errc::invalid_argument,
                      "larger than " + std::to_string(configs::cdi_spec_bytes_max) + " bytes");
  try {
    KILN_TRY(auto out, read_spec(YAML::Load(std::string(text))));
    KILN_CHECK(check_spec(out));
    return out;
  } catch (const YAML::Exception& e) {  // the library's way to say that it is no YAML
    return make_error(errc::invalid_argument, "line " + std::to_string(e.mark.line + 1) + ": " + e.msg);
  }
}

}  // namespace kiln::workers::cdi
