// The options of a Dockerfile build, read and checked. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "frontends/attestations.hpp"
#include "frontends/dockerfile/linter.hpp"
#include "gateway.pb.h"
#include "messages/platform.hpp"
#include "ops.pb.h"

namespace kiln::dockerfile {

using option_map = std::map<std::string, std::string>;

struct build_options {
  option_map all;  // as given, with aliases applied

  option_map build_args;
  option_map labels;
  std::string target;
  std::vector<kiln::platform> platforms;  // none: the default
  bool multi_platform = false;
  std::optional<std::vector<std::string>> no_cache;  // empty list: every stage
  std::string image_resolve_mode = "default";
  pb::NetMode network = pb::NetMode::UNSET;
  std::vector<std::pair<std::string, std::string>> extra_hosts;
  std::int64_t shm_size = 0;  // bytes
  std::vector<pb::Ulimit> ulimits;
  std::optional<pb::LinuxResources> resources;
  std::string cgroup_parent;
  std::string hostname;
  std::string cache_namespace;
  std::vector<moby::buildkit::v1::frontend::CacheOptionsEntry> cache_imports;
  std::optional<frontends::sbom_options> sbom;
  std::optional<lint_config> check;  // BUILDKIT_DOCKERFILE_CHECK

  std::optional<std::string> get(const std::string& key) const {
    auto at = all.find(key);
    return at == all.end() ? std::nullopt : std::optional(at->second);
  }
  bool is_no_cache(const std::string& stage_name) const;
};

/// invalid_argument naming the option. Source: frontend/dockerui/config.go, attr.go.
result<build_options> parse_build_options(const option_map& options);

/// The entries of `options` whose key begins with `prefix`, without it.
option_map with_prefix(const option_map& options, const std::string& prefix);

}  // namespace kiln::dockerfile
