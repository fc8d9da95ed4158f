// Build checks: the rules, their texts, which are switched on, and where findings go.
// A lint is cheap to copy; copies share the list of rules that fired. Thread-safe if its sink is.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "frontends/dockerfile/location.hpp"

namespace kiln::dockerfile {

struct lint_rule {
  std::string_view name;
  std::string_view description;
  std::string_view url;
  bool experimental = false;
};

/// All rules. Source: frontend/dockerfile/linter/ruleset.go.
namespace rules {
extern const lint_rule stage_name_casing, from_as_casing, no_empty_continuation,
    consistent_instruction_casing, duplicate_stage_name, reserved_stage_name, json_args_recommended,
    maintainer_deprecated, undefined_arg_in_from, workdir_relative_path, undefined_var,
    multiple_instructions_disallowed, legacy_key_value_format, invalid_base_image_platform,
    redundant_target_platform, secrets_used_in_arg_or_env, invalid_default_arg_in_from,
    from_platform_flag_const_disallowed, copy_ignored_file, invalid_definition_description,
    expose_proto_casing, expose_invalid_format;
}  // namespace rules

/// `skip=<rules|all>;error=<bool>;experimental=<rules|all>`.
struct lint_config {
  bool skip_all = false;
  bool experimental_all = false;
  bool return_as_error = false;
  std::vector<std::string> skip;
  std::vector<std::string> experimental;
};
/// invalid_argument `invalid check option "x"`. Source: linter.ParseLintOptions.
result<lint_config> parse_lint_options(std::string_view text);

using lint_sink = std::function<void(const lint_rule&, const std::string& message, const line_ranges&)>;

class lint {
 public:
  /// A lint that finds nothing.
  lint() = default;
  lint(const lint_config& config, lint_sink sink);

  void report(const lint_rule& rule, const std::string& message, const line_ranges& where) const;
  /// The same with the `check=` directives of an instruction's comments added.
  lint with_comments(const std::vector<std::string>& comments) const;
  /// With `error=true`: an error if any rule fired.
  status verdict() const;

 private:
  struct shared {
    lint_sink sink;
    std::mutex mutex;
    std::set<std::string> fired;
  };
  std::shared_ptr<shared> shared_;
  std::set<std::string> skip_;
  std::set<std::string> experimental_;
  bool skip_all_ = false;
  bool experimental_all_ = false;
  bool return_as_error_ = false;
};

}  // namespace kiln::dockerfile
