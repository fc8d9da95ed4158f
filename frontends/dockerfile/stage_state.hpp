// A stage while it is being converted. Owned by one conversion; not thread-safe.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "frontends/dockerfile/image_config.hpp"
#include "frontends/dockerfile/instructions.hpp"
#include "frontends/dockerfile/sources.hpp"
#include "frontends/llb/state.hpp"

namespace kiln::dockerfile {

struct stage_state;

struct step {
  instruction what;
  std::vector<stage_state*> sources;  // COPY --from: one; RUN: one for each mount
  bool is_onbuild = false;
};

struct arg_info {
  std::string value;
  arg_definition definition;
  std::set<std::string> deps;
  line_ranges location;
};

struct required_use {
  bool required = false;
  line_ranges location;
};

/// What a stage uses, for the outline.
struct usage {
  std::map<std::string, arg_info> all_args;
  std::set<std::string> used_args;
  std::map<std::string, required_use> secrets;
  std::map<std::string, required_use> ssh;
};

/// Where an instruction that counts once was seen.
struct last_use {
  bool is_set = false;
  line_ranges location;
};

struct stage_state {
  stage definition;
  llb::state state;
  image_config image;
  std::optional<image_config> base_image;  // as inherited, never changed
  std::optional<named_context> context;    // stands in for the stage
  std::optional<kiln::platform> platform;
  stage_state* base = nullptr;
  std::vector<std::pair<stage_state*, line_ranges>> deps;
  std::vector<arg_definition> build_args;
  std::vector<step> steps;
  std::set<std::string> context_paths;  // used from the main context
  std::shared_ptr<std::set<std::string>> paths = std::make_shared<std::set<std::string>>();  // used from this

  bool dispatched = false;
  bool resolved = false;
  bool onbuild_done = false;
  bool ignore_cache = false;
  bool unregistered = false;  // not a stage: an image named by COPY --from or a mount
  bool scan_stage = false;
  bool scan_context = false;
  bool workdir_set = false;

  std::string name;  // for display
  int step_index = 0;
  int step_total = 0;
  bool in_onbuild = false;

  usage used;
  last_use cmd, entrypoint, healthcheck;

  void add_dep(stage_state* dep, const line_ranges& where) {
    for (auto& [known, location] : deps) {
      if (known != dep) continue;
      location = where;
      return;
    }
    deps.emplace_back(dep, where);
  }
};

/// Paths as follow paths of a local source: relative, sorted; none when everything is used.
std::vector<std::string> follow_paths_of(const std::set<std::string>& paths);

}  // namespace kiln::dockerfile
