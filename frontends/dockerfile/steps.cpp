// Instructions that change settings: environment, labels, arguments, directories and the image configuration.
#include "base/pattern.hpp"
#include "base/time_text.hpp"
#include "frontends/dockerfile/converter.hpp"
#include "frontends/dockerfile/refusal.hpp"
#include "frontends/dockerfile/suggest.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace {

// Values that frontends read but commands do not see.
bool is_hidden_arg(std::string_view key) {
  return key == "BUILDKIT_SBOM_SCAN_CONTEXT" || key == "BUILDKIT_SBOM_SCAN_STAGE";
}

bool is_signal(const std::string& text) {
  if (auto number = parse_int(text)) return *number != 0;
  auto name = to_upper(text);
  if (name.starts_with("SIG")) name.erase(0, 3);
  static const std::set<std::string> names{
      "ABRT", "ALRM", "BUS",  "CHLD", "CLD",  "CONT", "FPE",    "HUP",    "ILL",  "INT", "IO",   "IOT",
      "KILL", "PIPE", "POLL", "PROF", "PWR",  "QUIT", "SEGV",   "STKFLT", "STOP", "SYS", "TERM", "TRAP",
      "TSTP", "TTIN", "TTOU", "URG",  "USR1", "USR2", "VTALRM", "WINCH",  "XCPU", "XFSZ"};
  if (names.contains(name) || name == "RTMIN" || name == "RTMAX") return true;
  for (std::string_view prefix : {"RTMIN+", "RTMAX-"}) {
    if (!name.starts_with(prefix)) continue;
    auto offset = parse_uint(name.substr(prefix.size()), 10, prefix == "RTMIN+" ? 15 : 14);
    return offset && *offset > 0;
  }
  return false;
}

std::string health_text(const health_config& h) {
  return "{Test:" + bracketed(h.test) + " Interval:" + format_duration(h.interval) +
         " Timeout:" + format_duration(h.timeout) + " StartPeriod:" + format_duration(h.start_period) +
         " StartInterval:" + format_duration(h.start_interval) + " Retries:" + std::to_string(h.retries) +
         "}";
}

}  // namespace

void converter::commit(stage_state& s, std::string message, bool layer, bool changes_files) {
  history_entry entry;
  entry.created_by = std::move(message) + (changes_files ? " # buildkit" : "");
  entry.comment = "buildkit.dockerfile.v0";
  entry.empty_layer = !layer;
  if (epoch_) entry.created = format_rfc3339_seconds(*epoch_);
  s.image.history.push_back(std::move(entry));
}

void converter::report_unmatched(const stage_state& s, const instruction_base& i, const environment& env,
                                 const std::set<std::string>& unmatched, const lint& checks) const {
  auto rest = unmatched;
  for (const auto& arg : s.build_args) rest.erase(arg.key);
  if (rest.empty()) return;
  auto names = env.names();
  for (const auto& name : rest) {
    if (is_hidden_arg(name)) continue;
    auto match = suggest(name, names, true);
    checks.report(rules::undefined_var,
                  "Usage of undefined variable '$" + name + "'" +
                      (match.empty() ? "" : " (did you mean $" + match + "?)"),
                  i.location);
  }
}

status converter::dispatch(stage_state& s, step& command) {
  auto& what = command.what;
  const auto& base = base_of(what);
  auto checks = checks_.with_comments(base.comments);
  s.in_onbuild = command.is_onbuild;
  auto expander = [&](const shell_words& words) -> word_expander {
    return [&](const std::string& word) -> result<std::string> {
      list_environment env(s.state.env);
      std::set<std::string> unmatched;
      auto out = words.expand(word, env, &unmatched);
      report_unmatched(s, base, env, unmatched, checks);
      if (!out) return std::move(out).error();
      return out->text;
    };
  };
  KILN_CHECK(expand_words(what, expander(words_)));
  shell_words raw;
  raw.skip_quotes = true;
  KILN_CHECK(expand_raw(what, expander(raw)));
  step_checks_ = checks;

  if (auto* i = std::get_if<env_instruction>(&what)) return env(s, *i, checks);
  if (auto* i = std::get_if<label_instruction>(&what)) return label(s, *i, checks);
  if (auto* i = std::get_if<arg_instruction>(&what)) return arg(s, *i, checks);
  if (auto* i = std::get_if<run_instruction>(&what)) return run_command(s, *i, command.sources);
  if (auto* i = std::get_if<workdir_instruction>(&what)) return workdir(s, *i, checks);
  if (auto* i = std::get_if<expose_instruction>(&what)) return expose(s, *i, checks);
  if (auto* i = std::get_if<volume_instruction>(&what)) return volume(s, *i);
  if (auto* i = std::get_if<stopsignal_instruction>(&what)) return stop_signal(s, *i);
  if (auto* i = std::get_if<add_instruction>(&what)) {
    copy_request request;
    request.places = i;
    request.base = i;
    request.excludes = i->excludes;
    request.source.out = {context_, 0};
    request.is_add = true;
    request.chown = i->chown;
    request.chmod = i->chmod;
    request.checksum = i->checksum;
    request.link = i->link;
    request.keep_git_dir = i->keep_git_dir;
    request.unpack = i->unpack;
    request.ignored = has_ignored_ ? &ignored_ : nullptr;
    KILN_CHECK(copy(s, request));
    for (const auto& path : i->paths)
      if (!path.starts_with("http://") && !path.starts_with("https://"))
        s.context_paths.insert(path_join("/", path));
    return {};
  }
  if (auto* i = std::get_if<copy_instruction>(&what)) {
    copy_request request;
    request.places = i;
    request.base = i;
    request.excludes = i->excludes;
    request.chown = i->chown;
    request.chmod = i->chmod;
    request.link = i->link;
    request.parents = i->parents;
    auto* from = command.sources.empty() ? nullptr : command.sources[0];
    if (from != nullptr && !from->dispatched)
      return invalid("cannot copy from stage " + quote(i->from) +
                     ", it needs to be defined before current stage " + quote(s.name));
    if (from != nullptr) request.source = from->state;
    else request.source.out = {context_, 0};
    request.ignored = from == nullptr && has_ignored_ ? &ignored_ : nullptr;
    KILN_CHECK(copy(s, request));
    for (const auto& path : i->paths)
      (from != nullptr ? *from->paths : s.context_paths).insert(path_join("/", path));
    return {};
  }
  if (auto* i = std::get_if<maintainer_instruction>(&what)) {
    s.image.author = i->maintainer;
    commit(s, "MAINTAINER " + i->maintainer, false, false);
  } else if (auto* i = std::get_if<onbuild_instruction>(&what)) {
    s.image.onbuild.push_back(i->expression);
  } else if (auto* i = std::get_if<cmd_instruction>(&what)) {
    once(*i, s.cmd, checks);
    shell_form(s, *i, *i, s.image.cmd, checks);
    s.image.args_escaped = true;
    commit(s, "CMD " + quote(s.image.cmd), false, false);
  } else if (auto* i = std::get_if<entrypoint_instruction>(&what)) {
    once(*i, s.entrypoint, checks);
    shell_form(s, *i, *i, s.image.entrypoint, checks);
    if (!s.cmd.is_set) s.image.cmd.clear();
    commit(s, "ENTRYPOINT " + quote(s.image.entrypoint), false, false);
  } else if (auto* i = std::get_if<healthcheck_instruction>(&what)) {
    once(*i, s.healthcheck, checks);
    s.image.healthcheck = i->health;
    commit(s, "HEALTHCHECK " + health_text(i->health), false, false);
  } else if (auto* i = std::get_if<user_instruction>(&what)) {
    s.state.user = i->user;
    s.image.user = i->user;
    commit(s, "USER " + i->user, false, false);
  } else if (auto* i = std::get_if<shell_instruction>(&what)) {
    s.image.shell = i->shell;
    commit(s, "SHELL " + bracketed(i->shell), false, false);
  }
  return {};
}

void converter::once(const instruction_base& i, last_use& seen, const lint& checks) {
  if (seen.is_set)
    checks.report(
        rules::multiple_instructions_disallowed,
        "Multiple " + i.name +
            " instructions should not be used in the same stage because only the last one will be used",
        seen.location);
  seen = {true, i.location};
}

void converter::shell_form(stage_state& s, const instruction_base& i, const command_line& line,
                           std::vector<std::string>& args, const lint& checks) {
  if (!line.prepend_shell) {
    args = line.args;
    return;
  }
  if (s.image.shell.empty())
    checks.report(
        rules::json_args_recommended,
        "JSON arguments recommended for " + i.name + " to prevent unintended behavior related to OS signals",
        i.location);
  args = with_shell(s, line.args);
}

void converter::secret_key(const std::string& keyword, const std::string& key, const line_ranges& where,
                           const lint& checks) {
  if (is_secret_name(key))
    checks.report(
        rules::secrets_used_in_arg_or_env,
        "Do not use ARG or ENV instructions for sensitive data (" + keyword + " " + quote(key) + ")", where);
}

namespace {

std::string legacy_message(const std::string& name) {
  return "\"" + name + " key=value\" should be used instead of legacy \"" + name + " key value\" format";
}

}  // namespace

status converter::env(stage_state& s, const env_instruction& i, const lint& checks) {
  std::string message = "ENV";
  for (const auto& pair : i.pairs) {
    if (pair.no_delimiter) checks.report(rules::legacy_key_value_format, legacy_message(i.name), i.location);
    secret_key("ENV", pair.key, i.location, checks);
    message += " " + pair.key + "=" + pair.value;
    s.state.env.set(pair.key, pair.value);
    s.image.set_env(pair.key, pair.value);
  }
  commit(s, message, false, false);
  return {};
}

status converter::label(stage_state& s, const label_instruction& i, const lint& checks) {
  std::string message = "LABEL";
  if (!s.image.labels) s.image.labels.emplace();
  for (const auto& pair : i.pairs) {
    if (pair.no_delimiter) checks.report(rules::legacy_key_value_format, legacy_message(i.name), i.location);
    (*s.image.labels)[pair.key] = pair.value;
    message += " " + pair.key + "=" + pair.value;
  }
  commit(s, message, false, false);
  return {};
}

status converter::arg(stage_state& s, const arg_instruction& i, const lint& checks) {
  std::vector<std::string> shown;
  for (auto definition : i.args) {
    secret_key("ARG", definition.key, i.location, checks);
    auto given = build_args_.find(definition.key);
    bool inherited = false;
    if (given != build_args_.end()) {
      definition.value = given->second;
    } else if (!definition.value) {
      definition.value = global_args_.get(definition.key);
      inherited = definition.value.has_value();
    } else {
      list_environment env(s.state.env);
      std::set<std::string> unmatched;
      auto expanded = words_.expand(*definition.value, env, &unmatched);
      report_unmatched(s, i, env, unmatched, checks);
      if (!expanded) return std::move(expanded).error();
      definition.value = expanded->text;
    }
    if (definition.value && !is_hidden_arg(definition.key))
      s.state.env.set(definition.key, *definition.value);
    if (!inherited)
      s.used.all_args[definition.key] = {definition.value.value_or(""), definition, {}, i.location};
    s.used.used_args.insert(definition.key);
    s.build_args.push_back(definition);
    shown.push_back(definition.key + (definition.value ? "=" + *definition.value : ""));
  }
  commit(s, "ARG " + join(shown, " "), false, false);
  return {};
}

status converter::set_workdir(stage_state& s, const std::string& path) {
  const auto& os = s.platform->os;
  auto dir = normalize_path(s.image.working_dir, path, os, false);
  if (!dir)
    return std::move(dir)
        .error()
        .with_context("normalizing working directory")
        .with_context("normalizing workdir");
  s.image.working_dir = *dir;
  if (os == "windows")
    for (auto& c : s.image.working_dir)
      if (c == '/') c = '\\';
  s.state.dir = *dir;
  return {};
}

status converter::workdir(stage_state& s, const workdir_instruction& i, const lint& checks) {
  if (!s.workdir_set && !is_absolute(i.path, s.platform->os))
    checks.report(
        rules::workdir_relative_path,
        "Relative workdir " + quote(i.path) + " can have unexpected results if the base image changes",
        i.location);
  s.workdir_set = true;
  KILN_CHECK(set_workdir(s, i.path));
  auto dir = s.state.dir;
  bool layer = dir != "/";
  if (layer) {
    std::optional<pb::ChownOpt> owner;
    if (!s.image.user.empty()) owner = llb::chown_option(s.image.user);
    std::optional<std::int64_t> created;
    if (epoch_) created = *epoch_ * 1000000000;
    llb::op_info info;
    list_environment env(s.state.env);
    info.name(prefix(s, uppercase_keyword(expanded_label(words_, i.code, env)), s.platform, env));
    info.locations = locations(i.location);
    std::vector<llb::file_step> steps;
    steps.push_back(llb::mkdir_step(llb::normalize_file_path(dir, dir, false), 0755, true, owner, created));
    s.state = s.state.with(llb::file(graph_, s.state.out, std::move(steps), std::move(info)));
  }
  commit(s, "WORKDIR " + dir, layer, false);
  return {};
}

status converter::volume(stage_state& s, const volume_instruction& i) {
  if (!s.image.volumes) s.image.volumes.emplace();
  for (const auto& path : i.volumes) {
    if (path.empty()) return invalid("VOLUME specified can not be an empty string");
    s.image.volumes->insert(path);
  }
  commit(s, "VOLUME " + bracketed(i.volumes), false, false);
  return {};
}

status converter::stop_signal(stage_state& s, const stopsignal_instruction& i) {
  if (!is_signal(i.signal)) return invalid("invalid signal: " + i.signal);
  s.image.stop_signal = i.signal;
  commit(s, "STOPSIGNAL " + i.signal, false, false);
  return {};
}

}  // namespace kiln::dockerfile
