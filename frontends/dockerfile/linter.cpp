#include "frontends/dockerfile/linter.hpp"

#include "frontends/dockerfile/directives.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace rules {

#define KILN_RULE_URL(page) "https://docs.docker.com/go/dockerfile/rule/" page "/"

const lint_rule stage_name_casing{"StageNameCasing", "Stage names should be lowercase",
                                  KILN_RULE_URL("stage-name-casing")};
const lint_rule from_as_casing{"FromAsCasing", "The 'as' keyword should match the case of the 'from' keyword",
                               KILN_RULE_URL("from-as-casing")};
const lint_rule no_empty_continuation{"NoEmptyContinuation",
                                      "Empty continuation lines will become errors in a future release",
                                      KILN_RULE_URL("no-empty-continuation")};
const lint_rule consistent_instruction_casing{
    "ConsistentInstructionCasing",
    "All commands within the Dockerfile should use the same casing (either upper or lower)",
    KILN_RULE_URL("consistent-instruction-casing")};
const lint_rule duplicate_stage_name{"DuplicateStageName", "Stage names should be unique",
                                     KILN_RULE_URL("duplicate-stage-name")};
const lint_rule reserved_stage_name{"ReservedStageName", "Reserved words should not be used as stage names",
                                    KILN_RULE_URL("reserved-stage-name")};
const lint_rule json_args_recommended{
    "JSONArgsRecommended",
    "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    KILN_RULE_URL("json-args-recommended")};
const lint_rule maintainer_deprecated{
    "MaintainerDeprecated",
    "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    KILN_RULE_URL("maintainer-deprecated")};
const lint_rule undefined_arg_in_from{"UndefinedArgInFrom", "FROM command must use declared ARGs",
                                      KILN_RULE_URL("undefined-arg-in-from")};
const lint_rule workdir_relative_path{
    "WorkdirRelativePath",
    "Relative workdir without an absolute workdir declared within the build can have unexpected results if "
    "the base image changes",
    KILN_RULE_URL("workdir-relative-path")};
const lint_rule undefined_var{"UndefinedVar", "Variables should be defined before their use",
                              KILN_RULE_URL("undefined-var")};
const lint_rule multiple_instructions_disallowed{
    "MultipleInstructionsDisallowed",
    "Multiple instructions of the same type should not be used in the same stage",
    KILN_RULE_URL("multiple-instructions-disallowed")};
const lint_rule legacy_key_value_format{
    "LegacyKeyValueFormat", "Legacy key/value format with whitespace separator should not be used",
    KILN_RULE_URL("legacy-key-value-format")};
const lint_rule invalid_base_image_platform{
    "InvalidBaseImagePlatform", "Base image platform does not match expected target platform", ""};
const lint_rule redundant_target_platform{
    "RedundantTargetPlatform",
    "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    KILN_RULE_URL("redundant-target-platform")};
const lint_rule secrets_used_in_arg_or_env{"SecretsUsedInArgOrEnv",
                                           "Sensitive data should not be used in the ARG or ENV commands",
                                           KILN_RULE_URL("secrets-used-in-arg-or-env")};
const lint_rule invalid_default_arg_in_from{
    "InvalidDefaultArgInFrom", "Default value for global ARG results in an empty or invalid base image name",
    KILN_RULE_URL("invalid-default-arg-in-from")};
const lint_rule from_platform_flag_const_disallowed{"FromPlatformFlagConstDisallowed",
                                                    "FROM --platform flag should not use a constant value",
                                                    KILN_RULE_URL("from-platform-flag-const-disallowed")};
const lint_rule copy_ignored_file{"CopyIgnoredFile",
                                  "Attempting to Copy file that is excluded by .dockerignore",
                                  KILN_RULE_URL("copy-ignored-file")};
const lint_rule invalid_definition_description{"InvalidDefinitionDescription",
                                               "Comment for build stage or argument should follow the "
                                               "format: `# <arg/stage name> <description>`. If this "
                                               "is not intended to be a description comment, add an empty "
                                               "line or comment between the instruction and the "
                                               "comment.",
                                               KILN_RULE_URL("invalid-definition-description"), true};
const lint_rule expose_proto_casing{"ExposeProtoCasing", "Protocol in EXPOSE instruction should be lowercase",
                                    KILN_RULE_URL("expose-proto-casing")};
const lint_rule expose_invalid_format{"ExposeInvalidFormat",
                                      "IP address and host-port mapping should not be used in EXPOSE "
                                      "instruction. This will become an error in a "
                                      "future release",
                                      KILN_RULE_URL("expose-invalid-format")};

#undef KILN_RULE_URL

}  // namespace rules

namespace {

std::vector<std::string> rule_names(std::string_view text) {
  std::vector<std::string> out;
  for (const auto& name : split(text, ',')) out.emplace_back(trim_space(name));
  return out;
}

std::vector<std::string> split_at_most(std::string_view text, char separator, std::size_t parts) {
  std::vector<std::string> out;
  while (out.size() + 1 < parts) {
    auto at = text.find(separator);
    if (at == std::string_view::npos) break;
    out.emplace_back(text.substr(0, at));
    text.remove_prefix(at + 1);
  }
  out.emplace_back(text);
  return out;
}

}  // namespace

result<lint_config> parse_lint_options(std::string_view text) {
  lint_config config;
  text = trim_space(text);
  if (text.empty()) return config;
  for (const auto& part : split_at_most(text, ';', 3)) {
    auto [key, raw, found] = cut(part, "=");
    if (!found) return make_error(errc::invalid_argument, "invalid check option " + quote(part));
    auto name = trim_space(key);
    auto value = trim_space(raw);
    if (name == "skip") {
      if (value == "all") config.skip_all = true;
      else config.skip = rule_names(value);
    } else if (name == "experimental") {
      if (value == "all") config.experimental_all = true;
      else config.experimental = rule_names(value);
    } else if (name == "error") {
      auto flag = parse_bool(value);
      if (!flag)
        return make_error(errc::invalid_argument, "failed to parse check option " + quote(part) +
                                                      ": strconv.ParseBool: parsing " + quote(value) +
                                                      ": invalid syntax");
      config.return_as_error = *flag;
    } else {
      return make_error(errc::invalid_argument, "invalid check option " + quote(name));
    }
  }
  return config;
}

lint::lint(const lint_config& config, lint_sink sink)
    : shared_(std::make_shared<shared>()),
      skip_(config.skip.begin(), config.skip.end()),
      experimental_(config.experimental.begin(), config.experimental.end()),
      skip_all_(config.skip_all),
      experimental_all_(config.experimental_all),
      return_as_error_(config.return_as_error) {
  shared_->sink = std::move(sink);
}

void lint::report(const lint_rule& rule, const std::string& message, const line_ranges& where) const {
  if (!shared_ || !shared_->sink) return;
  auto name = std::string(rule.name);
  if (rule.experimental ? !experimental_all_ && !experimental_.contains(name)
                        : skip_all_ || skip_.contains(name))
    return;
  std::lock_guard lock(shared_->mutex);
  shared_->fired.insert(name);
  shared_->sink(rule, message, where);
}

lint lint::with_comments(const std::vector<std::string>& comments) const {
  for (const auto& comment : comments) {
    directive_parser parser("");
    auto found = parser.parse_line(comment);
    if (!found || !*found || (*found)->name != "check") continue;
    auto config = parse_lint_options(cut((*found)->value, " ").before);
    if (!config) return *this;
    auto merged = *this;
    merged.skip_all_ |= config->skip_all;
    merged.experimental_all_ |= config->experimental_all;
    merged.skip_.insert(config->skip.begin(), config->skip.end());
    merged.experimental_.insert(config->experimental.begin(), config->experimental.end());
    return merged;
  }
  return *this;
}

status lint::verdict() const {
  if (!shared_ || !return_as_error_) return {};
  std::lock_guard lock(shared_->mutex);
  if (shared_->fired.empty()) return {};
  return make_error(errc::invalid_argument, "lint violation found for rules: " + join(shared_->fired, ", "));
}

}  // namespace kiln::dockerfile
