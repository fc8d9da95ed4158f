// A Dockerfile and its options as LLB and an image configuration. Asks for images and contexts through
// build_sources only. A conversion runs in one thread and may be repeated for other platforms in others.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "frontends/dockerfile/image_config.hpp"
#include "frontends/dockerfile/linter.hpp"
#include "frontends/dockerfile/sources.hpp"
#include "frontends/llb/state.hpp"

namespace kiln::dockerfile {

struct convert_request {
  build_sources* sources = nullptr;
  std::shared_ptr<const llb::source_map> file;
  std::optional<kiln::platform> target_platform;  // none: the build platform, which an image may override
  lint_sink warn;                                 // null: no checks
};

struct conversion {
  llb::state state;
  image_config image;
  std::optional<image_config> base_image;
  std::optional<std::int64_t> epoch;              // seconds since 1970
  kiln::platform platform;                        // what marshalling falls back to
  std::map<std::string, llb::state> scan_extras;  // name → what an SBOM scanner should look at besides
  bool ignore_cache = false;

  result<pb::Definition> marshal() const { return llb::marshal(state.out, {platform}); }
};

/// Errors carry the lines to blame. Source: dockerfile2llb/convert.go Dockerfile2LLB.
result<conversion> convert(const convert_request& request);

struct outline_arg {
  std::string name, description, value;
  line_ranges location;
};
struct outline_use {
  std::string name;
  bool required = false;
  line_ranges location;
};
struct outline {
  std::string name, description;
  std::vector<outline_arg> args;
  std::vector<outline_use> secrets, ssh;
};
/// What the target can be given. Source: dockerfile2llb/outline.go.
result<outline> outline_of(const convert_request& request);

/// Runs all checks; without a target, on all stages. Findings go to request.warn.
status check(const convert_request& request);

/// The lint settings of a build: the build argument's, else the file's `# check=`.
result<lint_config> lint_settings(const build_options& options, std::string_view text);

}  // namespace kiln::dockerfile
