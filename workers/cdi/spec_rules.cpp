// The rules of the specification a spec file must keep. Source: container-device-interface SPEC.md, "CDI JSON
// Specification" and the versions in which fields came.
#include <algorithm>
#include <array>
#include <functional>
#include <set>

#include "workers/cdi/spec.hpp"

namespace kiln::workers::cdi {

namespace {

error invalid(std::string text) { return make_error(errc::invalid_argument, std::move(text)); }

std::string quoted(const std::string& text) { return "\"" + text + "\""; }

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_alphanumeric(char c) { return is_letter(c) || is_digit(c); }

// Whether all but the ends is letters, digits and `more`, and the end is a letter or digit.
bool proper_rest(const std::string& name, std::string_view more) {
  return is_alphanumeric(name.back()) && std::all_of(name.begin() + 1, name.end(), [&](char c) {
           return is_alphanumeric(c) || more.find(c) != std::string_view::npos;
         });
}

status check_kind(const std::string& kind) {
  auto slash = kind.find('/');
  if (slash == std::string::npos) return invalid("kind " + quoted(kind) + ": expected vendor/class");
  for (const auto& part : {kind.substr(0, slash), kind.substr(slash + 1)}) {
    if (part.empty() || !is_letter(part.front()) || !proper_rest(part, "_-."))
      return invalid("kind " + quoted(kind) + ": " + quoted(part) +
                     " must begin with a letter, end with a letter or digit and hold only these, _, - and .");
  }
  return {};
}

status check_device_name(const std::string& name) {
  if (name.empty() || !is_alphanumeric(name.front()) || !proper_rest(name, "_-.:"))
    return invalid("device name " + quoted(name) +
                   ": must begin and end with a letter or digit and hold only these, _, -, . and :");
  return {};
}

status check_env(const std::vector<std::string>& env) {
  for (const auto& e : env)
    if (auto equals = e.find('='); equals == std::string::npos || equals == 0)
      return invalid("environment variable " + quoted(e) + ": expected NAME=value");
  return {};
}

status check_device_node(const device_node& d) {
  if (d.path.empty()) return invalid("a device node has no path");
  if (!d.type.empty() &&
      (d.type.size() != 1 || std::string_view("bcup").find(d.type) == std::string_view::npos))
    return invalid("device node " + quoted(d.path) + ": type " + quoted(d.type) + ": expected b, c, u or p");
  if (d.permissions.find_first_not_of("rwm") != std::string::npos)
    return invalid("device node " + quoted(d.path) + ": permissions " + quoted(d.permissions) +
                   ": expected r, w and m");
  return {};
}

status check_hook(const hook& h) {
  static const std::set<std::string> names{"prestart",       "createRuntime", "createContainer",
                                           "startContainer", "poststart",     "poststop"};
  if (!names.contains(h.name)) return invalid("unknown hook " + quoted(h.name));
  if (h.path.empty()) return invalid("hook " + quoted(h.name) + " has no path");
  if (auto s = check_env(h.env); !s.ok()) return std::move(s).error().with_context("hook " + quoted(h.name));
  return {};
}

status check_net_devices(const std::vector<net_device>& devices) {
  std::set<std::string> hosts, names;
  for (const auto& d : devices) {
    if (d.host_name.empty()) return invalid("network device " + quoted(d.name) + " has no hostInterfaceName");
    if (d.name.empty()) return invalid("network device " + quoted(d.host_name) + " has no name");
    if (!hosts.insert(d.host_name).second)
      return invalid("network device " + quoted(d.host_name) + " is given twice");
    if (!names.insert(d.name).second) return invalid("two network devices get the name " + quoted(d.name));
  }
  return {};
}

status check_edits(const container_edits& e) {
  KILN_CHECK(check_env(e.env));
  for (const auto& d : e.device_nodes) KILN_CHECK(check_device_node(d));
  for (const auto& h : e.hooks) KILN_CHECK(check_hook(h));
  for (const auto& m : e.mounts) {
    if (m.host_path.empty()) return invalid("mount " + quoted(m.container_path) + " has no hostPath");
    if (m.container_path.empty()) return invalid("mount " + quoted(m.host_path) + " has no containerPath");
  }
  if (e.rdt && e.rdt->clos_id != "/" &&
      (e.rdt->clos_id.size() >= 4096 || e.rdt->clos_id == "." || e.rdt->clos_id == ".." ||
       e.rdt->clos_id.find_first_of("/\n") != std::string::npos))
    return invalid("intelRdt.closID " + quoted(e.rdt->clos_id) + " is not a file name");
  return check_net_devices(e.net_devices);
}

// What a version brought; a spec that uses it must be of that version or a later one.
struct milestone {
  std::string_view version;
  std::function<bool(const spec&)> used;
};

bool any_edits(const spec& s, const std::function<bool(const container_edits&)>& test) {
  return test(s.edits) ||
         std::any_of(s.devices.begin(), s.devices.end(), [&](const auto& d) { return test(d.edits); });
}

bool any_device(const spec& s, const std::function<bool(const spec_device&)>& test) {
  return std::any_of(s.devices.begin(), s.devices.end(), test);
}

const auto& milestones() {
  static const std::array<milestone, 10> list{{
      {"0.1.0", nullptr},
      {"0.2.0", nullptr},
      {"0.3.0", nullptr},
      {"0.4.0",
       [](const spec& s) {
         return any_edits(s, [](const container_edits& e) {
           return std::any_of(e.mounts.begin(), e.mounts.end(),
                              [](const mount& m) { return !m.type.empty(); });
         });
       }},
      {"0.5.0",
       [](const spec& s) {
         return any_device(
                    s, [](const spec_device& d) { return !d.name.empty() && is_digit(d.name.front()); }) ||
                any_edits(s, [](const container_edits& e) {
                  return std::any_of(e.device_nodes.begin(), e.device_nodes.end(),
                                     [](const device_node& d) { return !d.host_path.empty(); });
                });
       }},
      {"0.6.0",
       [](const spec& s) {
         auto slash = s.kind.find('/');
         return !s.annotations.empty() ||
                any_device(s, [](const spec_device& d) { return !d.annotations.empty(); }) ||
                (slash != std::string::npos && s.kind.find('.', slash) != std::string::npos);
       }},
      {"0.7.0",
       [](const spec& s) {
         return any_edits(s, [](const container_edits& e) { return e.rdt || !e.additional_gids.empty(); });
       }},
      {"0.8.0", nullptr},
      {"1.0.0", nullptr},
      {"1.1.0",
       [](const spec& s) {
         return any_edits(s, [](const container_edits& e) {
           return !e.net_devices.empty() || (e.rdt && (!e.rdt->schemata.empty() || e.rdt->monitoring));
         });
       }},
  }};
  return list;
}

status check_version(const spec& s) {
  const auto& list = milestones();
  std::string_view version = s.version;
  if (version.starts_with('v')) version.remove_prefix(1);
  auto own = std::find_if(list.begin(), list.end(), [&](const milestone& m) { return m.version == version; });
  if (own == list.end()) return invalid("unknown cdiVersion " + quoted(s.version));
  for (auto m = list.rbegin(); m.base() - 1 != own; ++m)
    if (m->used && m->used(s))
      return invalid("cdiVersion " + quoted(s.version) + ": what it uses needs at least " +
                     std::string(m->version));
  return {};
}

}  // namespace

status check_spec(const spec& s) {
  KILN_CHECK(check_version(s));
  KILN_CHECK(check_kind(s.kind));
  KILN_CHECK(check_edits(s.edits));
  std::set<std::string> names;
  for (const auto& d : s.devices) {
    KILN_CHECK(check_device_name(d.name));
    if (!names.insert(d.name).second) return invalid("device " + quoted(d.name) + " is given twice");
    if (d.edits.empty()) return invalid("device " + quoted(d.name) + " has no containerEdits");
    if (auto ok = check_edits(d.edits); !ok.ok())
      return std::move(ok).error().with_context("device " + quoted(d.name));
  }
  if (s.devices.empty()) return invalid("there are no devices");
  return {};
}

}  // namespace kiln::workers::cdi
