// A CDI spec file: the devices of one kind and what each changes in a container. Pure: parsing and checking;
// knows nothing of directories, hosts or containers. Source: the Container Device Interface
// specification 1.1.0.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace kiln::workers::cdi {

struct device_node {
  std::string path;
  std::string host_path;  // empty: the same
  std::string type;       // b, c, u, p; empty: as on the host
  std::int64_t major = 0;
  std::int64_t minor = 0;
  std::optional<std::uint32_t> file_mode;
  std::string permissions;  // of r, w, m; empty: all
  std::optional<std::uint32_t> uid, gid;
};

struct mount {
  std::string host_path;
  std::string container_path;
  std::string type;
  std::vector<std::string> options;
};

struct hook {
  std::string name;  // of the OCI runtime spec, e.g. createRuntime
  std::string path;
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::optional<std::int64_t> timeout_s;
};

struct intel_rdt {
  std::string clos_id;
  std::string l3_cache_schema;
  std::string memory_bandwidth_schema;
  std::vector<std::string> schemata;
  bool monitoring = false;
};

struct net_device {
  std::string host_name;
  std::string name;
};

struct container_edits {
  std::vector<std::string> env;  // NAME=value
  std::vector<device_node> device_nodes;
  std::vector<net_device> net_devices;
  std::vector<hook> hooks;
  std::vector<mount> mounts;
  std::optional<intel_rdt> rdt;
  std::vector<std::uint32_t> additional_gids;

  bool empty() const;
  void append(const container_edits& more);
};

struct spec_device {
  std::string name;
  std::map<std::string, std::string> annotations;
  container_edits edits;
};

struct spec {
  std::string version;
  std::string kind;  // vendor/class
  std::map<std::string, std::string> annotations;
  std::vector<spec_device> devices;
  container_edits edits;  // with any of its devices
};

/// Reads and checks a spec in YAML, of which JSON is a part. invalid_argument tells the line, or what is
/// wrong with which device.
result<spec> parse_spec(std::string_view text);

/// What the specification demands beyond the form: a known version that has all that is used, proper names,
/// devices that change something, edits that are complete. invalid_argument.
status check_spec(const spec& s);

}  // namespace kiln::workers::cdi
