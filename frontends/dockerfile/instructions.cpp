#include "frontends/dockerfile/instructions.hpp"

#include <algorithm>

#include "frontends/dockerfile/flags.hpp"
#include "frontends/dockerfile/refusal.hpp"
#include "frontends/dockerfile/suggest.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace {

error needs_one_or_more(const std::string& name) { return invalid(name + " requires at least one argument"); }
error needs_exactly_one(const std::string& name) { return invalid(name + " requires exactly one argument"); }

template <class Instruction>
Instruction make(const node& n) {
  Instruction out;
  out.code = trim_space(n.original);
  out.name = n.keyword;
  out.location = n.location();
  out.comments = n.comments;
  return out;
}

// A shell command is one string, whatever white space it had.
std::vector<std::string> shell_or_json(const std::vector<std::string>& args, bool json) {
  if (args.empty() || json) return args;
  return {join(args, " ")};
}

status no_flags(const node& n) { return flag_set().parse(n.flags); }

std::string description_for(const std::vector<std::string>& comments, const std::string& name) {
  if (name.empty()) return {};
  for (const auto& line : comments)
    if (line.starts_with(name + " ")) return line.substr(name.size() + 1);
  return {};
}

result<std::vector<key_value>> pairs(const node& n, const std::string& name) {
  KILN_CHECK(no_flags(n));
  if (n.args.empty()) return needs_one_or_more(name);
  std::vector<key_value> out;
  for (std::size_t i = 0; i + 2 < n.args.size(); i += 3) {
    if (n.args[i].empty()) return invalid(name + " names can not be blank");
    out.push_back({n.args[i], n.args[i + 1], n.args[i + 2].empty()});
  }
  return out;
}

template <class Instruction>
result<instruction> pair_instruction(const node& n, const std::string& name) {
  auto out = make<Instruction>(n);
  KILN_TRY(out.pairs, pairs(n, name));
  return instruction(std::move(out));
}

result<instruction> maintainer(const node& n) {
  if (n.args.size() != 1) return needs_exactly_one("MAINTAINER");
  KILN_CHECK(no_flags(n));
  auto out = make<maintainer_instruction>(n);
  out.maintainer = n.args[0];
  return instruction(std::move(out));
}

status read_sources(const node& n, const std::string& name, sources_and_dest& out) {
  auto heredoc_of = [](const std::string& word) {
    auto found = parse_heredoc_word(word);
    return found ? *found : std::nullopt;
  };
  out.dest = n.args.back();
  if (heredoc_of(out.dest)) return invalid(name + " cannot accept a heredoc as a destination");
  for (std::size_t i = 0; i + 1 < n.args.size(); ++i) {
    auto doc = heredoc_of(n.args[i]);
    if (!doc) {
      out.paths.push_back(n.args[i]);
      continue;
    }
    std::string content;
    for (const auto& read : n.heredocs)
      if (read.name == doc->name) content = read.content;
    out.inlines.push_back({doc->name, doc->chomp ? chomp_heredoc(content) : content, doc->expand});
  }
  return {};
}

error no_destination(const std::string& name) {
  return invalid(name +
                 " requires at least two arguments, but only one was provided. Destination could not be "
                 "determined");
}

result<instruction> add(const node& n) {
  if (n.args.size() < 2) return no_destination("ADD");
  flag_set flags;
  flags.string("chown").string("chmod").boolean("link").boolean("keep-git-dir").string("checksum");
  flags.boolean("unpack").strings("exclude");
  KILN_CHECK(flags.parse(n.flags));
  auto out = make<add_instruction>(n);
  KILN_CHECK(read_sources(n, "ADD", out));
  out.chown = flags.value("chown");
  out.chmod = flags.value("chmod");
  out.link = flags.is_true("link");
  out.checksum = flags.value("checksum");
  out.excludes = flags.values("exclude");
  if (flags.used("keep-git-dir")) out.keep_git_dir = flags.is_true("keep-git-dir");
  if (flags.used("unpack")) out.unpack = flags.is_true("unpack");
  return instruction(std::move(out));
}

result<instruction> copy(const node& n) {
  if (n.args.size() < 2) return no_destination("COPY");
  flag_set flags;
  flags.string("chown").string("from").string("chmod").boolean("link").strings("exclude").boolean("parents");
  KILN_CHECK(flags.parse(n.flags));
  auto out = make<copy_instruction>(n);
  KILN_CHECK(read_sources(n, "COPY", out));
  out.from = flags.value("from");
  out.chown = flags.value("chown");
  out.chmod = flags.value("chmod");
  out.link = flags.is_true("link");
  out.parents = flags.is_true("parents");
  out.excludes = flags.values("exclude");
  return instruction(std::move(out));
}

result<instruction> onbuild(const node& n) {
  if (n.args.empty()) return needs_one_or_more("ONBUILD");
  KILN_CHECK(no_flags(n));
  auto trigger = to_upper(trim_space(n.args[0]));
  if (trigger == "ONBUILD") return invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
  if (trigger == "MAINTAINER" || trigger == "FROM")
    return invalid(trigger + " isn't allowed as an ONBUILD trigger");
  auto out = make<onbuild_instruction>(n);
  auto text = trim_space_left(n.original);
  if (equal_fold(text.substr(0, 7), "onbuild")) text = trim_space_left(text.substr(7));
  out.expression = text;
  for (const auto& doc : n.heredocs) out.expression += "\n" + doc.content + doc.name;
  return instruction(std::move(out));
}

template <class Instruction>
result<Instruction> one_string(const node& n, const std::string& name, std::string Instruction::*member) {
  if (n.args.size() != 1) return needs_exactly_one(name);
  KILN_CHECK(no_flags(n));
  auto out = make<Instruction>(n);
  out.*member = n.args[0];
  return out;
}

void read_command_line(const node& n, command_line& out) {
  out.args = shell_or_json(n.args, n.json);
  out.files = n.heredocs;
  out.prepend_shell = !n.json;
}

result<instruction> run(const node& n) {
  flag_set flags;
  flags.strings("mount").string("network").string("security").strings("device");
  KILN_CHECK(flags.parse(n.flags));
  auto out = make<run_instruction>(n);
  read_command_line(n, out);
  for (const auto& text : flags.values("device")) {
    KILN_TRY(auto device, parse_run_device(text));
    out.devices.push_back(std::move(device));
  }
  out.mount_flags = flags.values("mount");
  for (const auto& text : out.mount_flags) {
    KILN_TRY(auto mount, parse_run_mount(text, {}));
    out.mounts.push_back(std::move(mount));
  }
  if (flags.used("network")) out.network = flags.value("network");
  if (out.network != "default" && out.network != "none" && out.network != "host")
    return invalid("invalid network mode " + quote(out.network));
  if (flags.used("security")) out.security = flags.value("security");
  if (out.security != "sandbox" && out.security != "insecure")
    return invalid("security " + quote(out.security) + " is not valid");
  return instruction(std::move(out));
}

template <class Instruction>
result<instruction> command(const node& n) {
  KILN_CHECK(no_flags(n));
  auto out = make<Instruction>(n);
  read_command_line(n, out);
  return instruction(std::move(out));
}

constexpr std::int64_t min_interval = 1000000;  // ns

result<std::int64_t> interval(const flag_set& flags, const char* name) {
  const auto& text = flags.value(name);
  if (text.empty()) return std::int64_t{0};
  KILN_TRY(auto value, parse_duration(text));
  if (value != 0 && value < min_interval)
    return invalid("Interval " + quote(name) + " cannot be less than " + format_duration(min_interval));
  return value;
}

result<instruction> healthcheck(const node& n) {
  if (n.args.empty()) return needs_one_or_more("HEALTHCHECK");
  auto out = make<healthcheck_instruction>(n);
  auto type = to_upper(n.args[0]);
  std::vector<std::string> args(n.args.begin() + 1, n.args.end());
  if (type == "NONE") {
    if (!args.empty()) return invalid("HEALTHCHECK NONE takes no arguments");
    out.health.test = {type};
    return instruction(std::move(out));
  }
  flag_set flags;
  flags.string("interval")
      .string("timeout")
      .string("start-period")
      .string("start-interval")
      .string("retries");
  KILN_CHECK(flags.parse(n.flags));
  if (type != "CMD") return invalid("Unknown type " + quote(type) + " in HEALTHCHECK (try CMD)");
  auto words = shell_or_json(args, n.json);
  if (words.empty()) return invalid("Missing command after HEALTHCHECK CMD");
  out.health.test = {n.json ? "CMD" : "CMD-SHELL"};
  out.health.test.insert(out.health.test.end(), words.begin(), words.end());
  KILN_TRY(out.health.interval, interval(flags, "interval"));
  KILN_TRY(out.health.timeout, interval(flags, "timeout"));
  KILN_TRY(out.health.start_period, interval(flags, "start-period"));
  KILN_TRY(out.health.start_interval, interval(flags, "start-interval"));
  if (const auto& text = flags.value("retries"); !text.empty()) {
    auto retries = parse_int(text);
    if (!retries || *retries > INT32_MAX || *retries < INT32_MIN)
      return invalid("strconv.ParseInt: parsing " + quote(text) +
                     (retries ? ": value out of range" : ": invalid syntax"));
    if (*retries < 0) return invalid("--retries cannot be negative (" + std::to_string(*retries) + ")");
    out.health.retries = *retries;
  }
  return instruction(std::move(out));
}

result<instruction> expose(const node& n) {
  if (n.args.empty()) return needs_one_or_more("EXPOSE");
  KILN_CHECK(no_flags(n));
  auto out = make<expose_instruction>(n);
  out.ports = n.args;
  std::sort(out.ports.begin(), out.ports.end());
  return instruction(std::move(out));
}

result<instruction> volume(const node& n) {
  if (n.args.empty()) return needs_one_or_more("VOLUME");
  KILN_CHECK(no_flags(n));
  auto out = make<volume_instruction>(n);
  for (const auto& arg : n.args) {
    auto path = trim_space(arg);
    if (path.empty()) return invalid("VOLUME specified can not be an empty string");
    out.volumes.emplace_back(path);
  }
  return instruction(std::move(out));
}

result<instruction> stop_signal(const node& n) {
  if (n.args.size() != 1) return needs_exactly_one("STOPSIGNAL");
  auto out = make<stopsignal_instruction>(n);
  out.signal = n.args[0];
  return instruction(std::move(out));
}

result<arg_instruction> arg(const node& n) {
  if (n.args.empty()) return needs_one_or_more("ARG");
  auto out = make<arg_instruction>(n);
  for (const auto& word : n.args) {
    auto [key, value, has_value] = cut(word, "=");
    if (has_value && key.empty()) return invalid("ARG names can not be blank");
    arg_definition definition;
    definition.key = key;
    if (has_value) definition.value = value;
    definition.description = description_for(n.comments, key);
    out.args.push_back(std::move(definition));
  }
  return out;
}

result<instruction> shell(const node& n) {
  KILN_CHECK(no_flags(n));
  auto words = shell_or_json(n.args, n.json);
  if (words.empty()) return needs_one_or_more("SHELL");
  if (!n.json) return invalid("SHELL requires the arguments to be in JSON form");
  auto out = make<shell_instruction>(n);
  out.shell = std::move(words);
  return instruction(std::move(out));
}

bool is_stage_name(const std::string& name) {
  if (name.empty() || name[0] < 'a' || name[0] > 'z') return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  });
}

void check_from_casing(const node& n, const lint& checks) {
  if (n.args.size() == 3 && n.args[2] != to_lower(n.args[2]))
    checks.report(rules::stage_name_casing, "Stage name '" + n.args[2] + "' should be lowercase",
                  n.location());
  if (n.args.size() < 3) return;
  bool lower = n.keyword == to_lower(n.keyword), upper = n.keyword == to_upper(n.keyword);
  if (!lower && !upper) return;
  if (n.args[1] != (lower ? to_lower(n.args[1]) : to_upper(n.args[1])))
    checks.report(rules::from_as_casing,
                  "'" + n.args[1] + "' and '" + n.keyword + "' keywords' casing do not match", n.location());
}

void check_description(const std::string& instruction_name, const std::vector<std::string>& keys,
                       const node& n, const lint& checks) {
  if (n.comments.empty() || keys.empty()) return;
  auto first_word = cut(n.comments.back(), " ").before;
  if (std::find(keys.begin(), keys.end(), first_word) != keys.end()) return;
  auto example = keys.size() > 1 ? "<arg_key>" : keys[0];
  checks.report(
      rules::invalid_definition_description,
      "Comment for " + instruction_name + " should follow the format: `# " + example + " <description>`",
      n.location());
}

result<stage> from(const node& n) {
  stage out;
  if (n.args.size() == 3 && equal_fold(n.args[1], "as")) {
    out.name = to_lower(n.args[2]);
    if (!is_stage_name(out.name))
      return invalid("invalid name for build stage: " + quote(n.args[2]) +
                     ", name can't start with a number or contain symbols");
  } else if (n.args.size() != 1) {
    return invalid("FROM requires either one or three arguments");
  }
  flag_set flags;
  flags.string("platform");
  KILN_CHECK(flags.parse(n.flags));
  out.base_name = n.args[0];
  out.platform = flags.value("platform");
  out.keyword = n.keyword;
  out.code = trim_space(n.original);
  out.location = n.location();
  out.comments = n.comments;
  out.description = description_for(n.comments, out.name);
  return out;
}

template <class Instruction>
result<instruction> wrap(result<Instruction> parsed) {
  if (!parsed) return std::move(parsed).error();
  return instruction(*std::move(parsed));
}

result<instruction> parse_known(const node& n, const lint& checks) {
  auto keyword = to_lower(n.keyword);
  if (keyword == "env") return pair_instruction<env_instruction>(n, "ENV");
  if (keyword == "label") return pair_instruction<label_instruction>(n, "LABEL");
  if (keyword == "maintainer") {
    checks.report(rules::maintainer_deprecated,
                  "Maintainer instruction is deprecated in favor of using label", n.location());
    return maintainer(n);
  }
  if (keyword == "add") return add(n);
  if (keyword == "copy") return copy(n);
  if (keyword == "onbuild") return onbuild(n);
  if (keyword == "workdir") return wrap(one_string(n, "WORKDIR", &workdir_instruction::path));
  if (keyword == "run") return run(n);
  if (keyword == "cmd") return command<cmd_instruction>(n);
  if (keyword == "healthcheck") return healthcheck(n);
  if (keyword == "entrypoint") return command<entrypoint_instruction>(n);
  if (keyword == "expose") return expose(n);
  if (keyword == "user") return wrap(one_string(n, "USER", &user_instruction::user));
  if (keyword == "volume") return volume(n);
  if (keyword == "stopsignal") return stop_signal(n);
  if (keyword == "shell") return shell(n);
  if (keyword == "arg") {
    KILN_TRY(auto out, arg(n));
    std::vector<std::string> keys;
    for (const auto& a : out.args) keys.push_back(a.key);
    check_description("ARG", keys, n, checks);
    return instruction(std::move(out));
  }
  static const std::vector<std::string> names{
      "ADD",   "ARG",        "CMD",     "COPY", "ENTRYPOINT", "ENV",        "EXPOSE", "FROM",   "HEALTHCHECK",
      "LABEL", "MAINTAINER", "ONBUILD", "RUN",  "SHELL",      "STOPSIGNAL", "USER",   "VOLUME", "WORKDIR"};
  return with_suggestion(invalid("unknown instruction: " + n.keyword), n.keyword, names, false);
}

error parse_error(error e, const node& n) {
  return with_location(std::move(e), n.location())
      .with_context("dockerfile parse error on line " + std::to_string(n.start_line));
}

}  // namespace

const instruction_base& base_of(const instruction& i) {
  return std::visit([](const auto& x) -> const instruction_base& { return x; }, i);
}

result<instruction> parse_instruction(const node& n) {
  auto out = equal_fold(n.keyword, "from")
                 ? result<instruction>(invalid("*instructions.Stage is not a command type"))
                 : parse_known(n, lint());
  if (!out) return with_location(std::move(out).error(), n.location());
  return out;
}

result<dockerfile> parse_instructions(const parsed_file& file, const lint& all_checks) {
  dockerfile out;
  for (const auto& n : file.nodes) {
    auto checks = all_checks.with_comments(n.comments);
    if (equal_fold(n.keyword, "from")) {
      check_from_casing(n, checks);
      auto parsed = from(n);
      if (!parsed) return parse_error(std::move(parsed).error(), n);
      if (!parsed->name.empty()) check_description("FROM", {parsed->name}, n, checks);
      out.stages.push_back(*std::move(parsed));
      continue;
    }
    auto parsed = parse_known(n, checks);
    if (!parsed) return parse_error(std::move(parsed).error(), n);
    if (!out.stages.empty()) {
      out.stages.back().instructions.push_back(*std::move(parsed));
    } else if (auto* global = std::get_if<arg_instruction>(&*parsed)) {
      out.global_args.push_back(std::move(*global));
    } else {
      return with_location(invalid("no build stage in current context"), n.location());
    }
  }
  return out;
}

}  // namespace kiln::dockerfile
