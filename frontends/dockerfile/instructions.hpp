// Typed instructions: what each line of a Dockerfile means, before variables are expanded. Pure values.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "frontends/dockerfile/linter.hpp"
#include "frontends/dockerfile/parser.hpp"

namespace kiln::dockerfile {

/// What every instruction has.
struct instruction_base {
  std::string code;  // the line, trimmed
  std::string name;  // the keyword as written
  line_ranges location;
  std::vector<std::string> comments;
};

struct key_value {
  std::string key, value;
  bool no_delimiter = false;  // the legacy form "KEY value"
};

struct arg_definition {
  std::string key;
  std::optional<std::string> value;
  std::string description;
};

/// A file given inline: a heredoc of COPY or ADD.
struct inline_source {
  std::string path;
  std::string data;
  bool expand = false;
};

struct sources_and_dest {
  std::string dest;
  std::vector<std::string> paths;
  std::vector<inline_source> inlines;
};

/// Words for a shell, or for exec when given as JSON.
struct command_line {
  std::vector<std::string> args;
  std::vector<heredoc> files;
  bool prepend_shell = false;
};

enum class mount_type { bind, cache, tmpfs, secret, ssh };
std::string_view to_string(mount_type type);

struct run_mount {
  mount_type type = mount_type::bind;
  std::string from, source, target;
  bool readonly = false;
  std::int64_t size_limit = 0;  // bytes, tmpfs
  std::string id;
  std::string sharing;  // "", shared, private, locked
  bool required = false;
  std::optional<std::string> env;
  std::optional<std::uint32_t> mode, uid, gid;
};

struct run_device {
  std::string name;
  bool required = false;
};

/// Durations in nanoseconds, 0 = inherit.
struct health_config {
  std::vector<std::string> test;
  std::int64_t interval = 0, timeout = 0, start_period = 0, start_interval = 0;
  std::int64_t retries = 0;
};

struct env_instruction : instruction_base {
  std::vector<key_value> pairs;
};
struct label_instruction : instruction_base {
  std::vector<key_value> pairs;
};
struct maintainer_instruction : instruction_base {
  std::string maintainer;
};
struct add_instruction : instruction_base, sources_and_dest {
  std::string chown, chmod, checksum;
  bool link = false;
  std::vector<std::string> excludes;
  std::optional<bool> keep_git_dir, unpack;
};
struct copy_instruction : instruction_base, sources_and_dest {
  std::string from, chown, chmod;
  bool link = false, parents = false;
  std::vector<std::string> excludes;
};
struct onbuild_instruction : instruction_base {
  std::string expression;
};
struct workdir_instruction : instruction_base {
  std::string path;
};
struct run_instruction : instruction_base, command_line {
  std::vector<std::string> mount_flags;
  std::vector<run_mount> mounts;
  std::vector<run_device> devices;
  std::string network = "default";
  std::string security = "sandbox";
};
struct cmd_instruction : instruction_base, command_line {};
struct entrypoint_instruction : instruction_base, command_line {};
struct healthcheck_instruction : instruction_base {
  health_config health;
};
struct expose_instruction : instruction_base {
  std::vector<std::string> ports;
};
struct user_instruction : instruction_base {
  std::string user;
};
struct volume_instruction : instruction_base {
  std::vector<std::string> volumes;
};
struct stopsignal_instruction : instruction_base {
  std::string signal;
};
struct arg_instruction : instruction_base {
  std::vector<arg_definition> args;
};
struct shell_instruction : instruction_base {
  std::vector<std::string> shell;
};

using instruction =
    std::variant<env_instruction, label_instruction, maintainer_instruction, add_instruction,
                 copy_instruction, onbuild_instruction, workdir_instruction, run_instruction, cmd_instruction,
                 entrypoint_instruction, healthcheck_instruction, expose_instruction, user_instruction,
                 volume_instruction, stopsignal_instruction, arg_instruction, shell_instruction>;

const instruction_base& base_of(const instruction& i);

/// A FROM line and what follows it.
struct stage {
  std::string name;       // lower case, "" when unnamed
  std::string base_name;  // unexpanded
  std::string platform;   // unexpanded
  std::string keyword;    // "FROM" as written
  std::string description;
  std::string code;
  line_ranges location;
  std::vector<std::string> comments;
  std::vector<instruction> instructions;
};

struct dockerfile {
  std::vector<stage> stages;
  std::vector<arg_instruction> global_args;  // before the first FROM
};

/// All stages of a parsed file. Errors read "dockerfile parse error on line N: …" and carry their lines.
/// Source: frontend/dockerfile/instructions/parse.go Parse.
result<dockerfile> parse_instructions(const parsed_file& file, const lint& checks);

/// One instruction that is not FROM (an ONBUILD trigger).
result<instruction> parse_instruction(const node& n);

/// Replaces variables in the parts of an instruction that have them; `expand` is asked word by word.
using word_expander = std::function<result<std::string>(const std::string&)>;
status expand_words(instruction& i, const word_expander& expand);
/// Heredoc contents, in which quotes mean nothing.
status expand_raw(instruction& i, const word_expander& expand);

/// Reads one --mount value. Without an expander only `from` is read, because it must be known early.
/// Source: instructions/commands_runmount.go.
result<run_mount> parse_run_mount(const std::string& text, const word_expander& expand);
result<run_device> parse_run_device(const std::string& text);

}  // namespace kiln::dockerfile
