// SOURCE_DATE_EPOCH: a number, or the time of the context, of a named context, or of a stage's only source.
#include "frontends/dockerfile/archive_time.hpp"
#include "frontends/dockerfile/converter.hpp"
#include "frontends/dockerfile/git_ref.hpp"
#include "frontends/dockerfile/refusal.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace gw = moby::buildkit::v1::frontend;

namespace {

// "committer Name <mail> 1700000000 +0100" of a raw commit.
std::optional<std::int64_t> commit_time(const std::string& object) {
  for (const auto& line : split(object, '\n')) {
    if (line.empty()) return std::nullopt;
    if (!line.starts_with("committer ")) continue;
    auto end = line.rfind('>');
    if (end == std::string::npos) return std::nullopt;
    std::string rest(trim_space(line.substr(end + 1)));
    return parse_int(cut(rest, " ").before);
  }
  return std::nullopt;
}

// The only source operation of a definition.
std::optional<pb::SourceOp> only_source(const pb::Definition& definition) {
  std::optional<pb::SourceOp> found;
  for (const auto& bytes : definition.def()) {
    pb::Op op;
    if (!op.ParseFromString(bytes) || !op.has_source()) continue;
    if (found) return std::nullopt;
    found = op.source();
  }
  return found;
}

std::string file_name_of(const std::string& url) {
  auto rest = url.substr(url.find("://") + 3);
  rest = rest.substr(0, rest.find_first_of("?#"));
  auto slash = rest.find('/');
  auto base = slash == std::string::npos ? std::string(".") : path_base(rest.substr(slash));
  return base == "." || base == "/" ? "__unnamed__" : base;
}

}  // namespace

result<std::optional<std::int64_t>> converter::resolve_epoch(const std::string& value,
                                                             const std::vector<stage>& stages) {
  if (value.empty()) return std::optional<std::int64_t>{};
  if (auto number = parse_int(value)) return number;
  std::string log_name;
  KILN_TRY(auto source, epoch_source(value, stages, log_name));
  return epoch_of(source, log_name);
}

result<llb::output> converter::epoch_source(const std::string& value, const std::vector<stage>& stages,
                                            std::string& log_name) {
  if (value == "context") {
    log_name = "[internal] resolve main build context metadata";
    return sources_.main_context({});
  }
  KILN_TRY(auto named, sources_.find_context(value, std::nullopt));
  if (named) {
    log_name = "[internal] resolve SOURCE_DATE_EPOCH named context " + value;
    KILN_TRY(auto loaded, sources_.load_context(*named, {}));
    return loaded.state.out;
  }
  for (const auto& s : stages) {
    if (!equal_fold(s.name, value)) continue;
    log_name = "[internal] resolve SOURCE_DATE_EPOCH source stage " + s.name;
    auto source = epoch_stage(s);
    if (!source) return with_location(std::move(source).error(), s.location);
    return source;
  }
  return invalid("invalid SOURCE_DATE_EPOCH: " + value);
}

result<llb::output> converter::epoch_stage(const stage& s) {
  auto env = global_args_;
  env.erase("SOURCE_DATE_EPOCH");
  auto base = words_.expand(s.base_name, list_environment(env));
  if (!base)
    return std::move(base).error().with_context("failed to process source stage base name " +
                                                quote(s.base_name));
  if (base->text != "scratch") return invalid("SOURCE_DATE_EPOCH stage must use FROM scratch");
  std::optional<llb::output> source;
  for (const auto& i : s.instructions) {
    if (const auto* args = std::get_if<arg_instruction>(&i)) {
      for (const auto& arg : args->args) {
        if (auto given = build_args_.find(arg.key); given != build_args_.end()) {
          env.set(arg.key, given->second);
        } else if (arg.value) {
          KILN_TRY(auto expanded, words_.expand(*arg.value, list_environment(env)));
          env.set(arg.key, expanded.text);
        }
      }
    } else if (const auto* add = std::get_if<add_instruction>(&i)) {
      if (source) return invalid("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD");
      KILN_TRY(source, epoch_add(*add, env));
    } else {
      return invalid("SOURCE_DATE_EPOCH stage does not meet source-only requirements: unsupported " +
                     base_of(i).name + " instruction");
    }
  }
  if (!source) return invalid("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD");
  return *source;
}

result<llb::output> converter::epoch_add(const add_instruction& i, const llb::env_list& env) {
  if (!i.inlines.empty() || i.paths.size() != 1)
    return invalid("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source");
  KILN_TRY(auto expanded, words_.expand(i.paths[0], list_environment(env)));
  KILN_TRY(auto checksum, words_.expand(i.checksum, list_environment(env)));
  const auto& text = expanded.text;
  if (is_http_source(text)) {
    if (!checksum.text.empty()) KILN_CHECK(check_digest(checksum.text));
    return llb::http(graph_, text, {checksum.text, file_name_of(text)}, {});
  }
  auto git = parse_git_ref(text);
  if (git.problem) return *git.problem;
  if (!git.ref || git.ref->looks_local)
    return invalid("SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD");
  auto options = git.ref->options();
  options.keep_git_dir |= i.keep_git_dir.value_or(false);
  if (!checksum.text.empty()) options.checksum = checksum.text;
  options.mtime.clear();
  options.fetch_by_commit = false;
  return llb::git(graph_, options, {});
}

result<std::optional<std::int64_t>> converter::epoch_of(llb::output source, const std::string& log_name) {
  std::optional<std::int64_t> none;
  KILN_TRY(auto definition, sources_.marshal(source));
  auto op = only_source(definition);
  if (!op) return none;
  bool is_git = op->identifier().starts_with("git://");
  bool is_http = op->identifier().starts_with("http://") || op->identifier().starts_with("https://");
  gw::ResolveSourceMetaRequest request;
  *request.mutable_source() = *op;
  request.set_logname(log_name);
  if (is_git) request.mutable_git()->set_returnobject(true);
  KILN_TRY(auto meta, sources_.host().resolve_source_meta(request));
  if (meta.has_git() && !meta.git().commitobject().empty()) {
    auto time = commit_time(meta.git().commitobject());
    if (!time) return invalid("invalid git commit object: no committer time");
    return time;
  }
  if (meta.has_http() && meta.http().has_lastmodified())
    return std::optional(meta.http().lastmodified().seconds());
  auto file = op->attrs().find("http.filename");
  if (!is_http || file == op->attrs().end()) return none;
  KILN_TRY(auto only, sources_.marshal(llb::source(graph_, op->identifier(),
                                                   {op->attrs().begin(), op->attrs().end()}, {})));
  KILN_TRY(auto ref, sources_.solve(only));
  KILN_TRY(auto bytes, sources_.read_file(ref, file->second));
  return newest_in_archive(bytes);
}

}  // namespace kiln::dockerfile
