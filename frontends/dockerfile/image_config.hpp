// The image configuration that a build inherits, changes and hands to the exporter. Fields are those Docker
// and OCI define, in the order Go writes them; anything else in a base image's configuration is carried
// along. Pure values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_text.hpp"
#include "base/result.hpp"
#include "frontends/dockerfile/instructions.hpp"
#include "messages/platform.hpp"

namespace kiln::dockerfile {

struct history_entry {
  std::string created;  // RFC 3339, "" when unset
  std::string created_by;
  std::string author;
  std::string comment;
  bool empty_layer = false;
};

struct image_config {
  std::string created;
  std::string author;
  kiln::platform platform;

  std::string user;
  std::optional<std::set<std::string>> exposed_ports;
  std::vector<std::string> env;
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::optional<std::set<std::string>> volumes;
  std::string working_dir;
  std::optional<std::map<std::string, std::string>> labels;
  std::string stop_signal;
  bool args_escaped = false;
  std::optional<health_config> healthcheck;
  std::vector<std::string> onbuild;
  std::vector<std::string> shell;

  std::string rootfs_type;
  std::optional<std::vector<std::string>> diff_ids;
  std::vector<history_entry> history;

  nlohmann::ordered_json other;         // keys we do not know, top level
  nlohmann::ordered_json other_config;  // the same inside "config"

  /// Sets a variable in place, or appends it.
  void set_env(const std::string& key, const std::string& value);
  std::optional<std::string> get_env(std::string_view key) const;
};

/// invalid_argument naming the field that has the wrong type.
result<image_config> parse_image_config(std::string_view json);
std::string to_json(const image_config& image);

/// The configuration of `FROM scratch`. Source: dockerfile2llb/image.go emptyImage.
image_config empty_image(const kiln::platform& platform);

/// "KEY=value" in two.
std::pair<std::string, std::string> split_env(std::string_view entry);

}  // namespace kiln::dockerfile
