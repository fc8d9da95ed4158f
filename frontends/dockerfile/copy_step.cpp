// COPY and ADD: files of the context or another stage, URLs, git repositories and inline documents.
#include <algorithm>
#include <cctype>

#include "base/mode_text.hpp"
#include "base/url.hpp"
#include "frontends/dockerfile/converter.hpp"
#include "frontends/dockerfile/git_ref.hpp"
#include "frontends/dockerfile/refusal.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace {

constexpr std::uint64_t max_mode = 07777;

bool is_git_source(const std::string& text) { return parse_git_ref(text).ref.has_value(); }

std::string url_file_name(const std::string& url) {
  auto rest = url.substr(url.find("://") + 3);
  rest = rest.substr(0, rest.find_first_of("?#"));
  auto slash = rest.find('/');
  auto base = slash == std::string::npos ? std::string(".") : path_base(rest.substr(slash));
  auto decoded = path_base(url_unescape_all(base).value_or("."));
  return decoded == "." || decoded == "/" ? "__unnamed__" : decoded;
}

}  // namespace

bool is_http_source(const std::string& text) {
  return (text.starts_with("http://") || text.starts_with("https://")) && !is_git_source(text);
}

status check_digest(const std::string& text) {
  static const std::map<std::string, std::size_t> lengths{{"sha256", 64}, {"sha384", 96}, {"sha512", 128}};
  auto [algorithm, hex, found] = cut(text, ":");
  auto is_algorithm_char = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           std::string_view("+._-").find(c) != std::string_view::npos;
  };
  auto is_encoded_char = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '=' || c == '_' || c == '-';
  };
  if (!found || algorithm.empty() || hex.empty() ||
      !std::all_of(algorithm.begin(), algorithm.end(), is_algorithm_char) ||
      !std::all_of(hex.begin(), hex.end(), is_encoded_char))
    return invalid("invalid checksum digest format");
  auto known = lengths.find(algorithm);
  if (known == lengths.end()) return invalid("unsupported digest algorithm");
  if (hex.size() != known->second) return invalid("invalid checksum digest length");
  if (hex.find_first_not_of("0123456789abcdef") != std::string::npos)
    return invalid("invalid checksum digest format");
  return {};
}

status check_chmod(const std::string& text, std::optional<std::uint32_t>& octal) {
  auto value = parse_uint(text, 8, 0xffffffff);
  bool numeric = !text.empty() && text[0] >= '0' && text[0] <= '9';
  if ((value && *value > max_mode) || (!value && numeric))
    return invalid("invalid chmod parameter: '" + text +
                   "'. it should be octal string and between 0 and 07777");
  if (value) {
    octal = static_cast<std::uint32_t>(*value);
    return {};
  }
  auto change = mode_change::parse(text);
  return change ? status{} : std::move(change).error();
}

struct converter::copy_options {
  std::string dest;
  std::string label;
  std::optional<pb::ChownOpt> owner;
  std::optional<std::uint32_t> mode;
  std::string mode_text;
  std::string checksum;
  std::optional<bool> keep_git_dir;
  std::vector<llb::file_step> steps;

  pb::FileActionCopy& add(llb::output source, const std::string& path,
                          const std::vector<std::string>& excludes) {
    auto& step = steps.emplace_back();
    step.copy_source = source;
    auto& copy = *step.action.mutable_copy();
    copy.set_src(path);
    copy.set_dest(dest);
    if (owner) *copy.mutable_owner() = *owner;
    if (!mode_text.empty()) copy.set_modestr(mode_text);
    else copy.set_mode(mode ? static_cast<std::int32_t>(*mode) : -1);
    copy.set_createdestpath(true);
    copy.set_timestamp(-1);
    for (const auto& pattern : excludes) copy.add_exclude_patterns(pattern);
    return copy;
  }
};

void converter::check_ignored(const copy_request& r, const std::string& raw, const lint& checks) const {
  if (r.ignored == nullptr || r.ignored->has_exclusions()) return;
  auto path = clean_path(raw);
  if (path == "." || path == "/") {
    // The root itself cannot be excluded, only everything in it.
    bool everything = false;
    for (std::size_t i = 0; i < r.ignored->size(); ++i) {
      const auto& text = r.ignored->text(i);
      everything |= text == "*" || text == "**" || text == "**/*";
    }
    if (!everything) return;
  }
  if (r.ignored->matches(path))
    checks.report(rules::copy_ignored_file,
                  std::string("Attempting to ") + (r.is_add ? "Add" : "Copy") + " file " + quote(path) +
                      " that is excluded by .dockerignore",
                  r.base->location);
}

status converter::git_source(stage_state&, const copy_request& r, const std::string& text,
                             copy_options& options) {
  if (!r.is_add) return invalid("source can't be a git ref for COPY");
  auto ref = *parse_git_ref(text).ref;
  if (options.keep_git_dir && ref.keep_git_dir && *options.keep_git_dir != *ref.keep_git_dir)
    return invalid("inconsistent keep-git-dir configuration");
  if (ref.keep_git_dir) options.keep_git_dir = ref.keep_git_dir;
  if (!options.checksum.empty() && !ref.checksum.empty() && options.checksum != ref.checksum)
    return invalid("checksum mismatch " + quote(options.checksum) + " != " + quote(ref.checksum));
  if (!ref.checksum.empty()) options.checksum = ref.checksum;
  auto git = ref.options();
  git.keep_git_dir = options.keep_git_dir.value_or(false);
  git.checksum = options.checksum;
  git.mtime.clear();
  llb::op_info info;
  info.name(options.label);
  options.add(llb::git(graph_, git, std::move(info)), "/", r.excludes);
  return {};
}

status converter::http_source(stage_state&, const copy_request& r, const std::string& url,
                              copy_options& options) {
  if (!r.is_add) return invalid("source can't be a URL for COPY");
  if (!options.checksum.empty()) KILN_CHECK(check_digest(options.checksum));
  auto name = url_file_name(url);
  llb::op_info info;
  info.name(options.label);
  info.command("");
  auto& copy = options.add(llb::http(graph_, url, {options.checksum, name}, std::move(info)),
                           llb::normalize_file_path("/", name, false), r.excludes);
  copy.set_attemptunpackdockercompatibility(r.unpack.value_or(false));
  return {};
}

status converter::file_source(stage_state& s, const copy_request& r, const std::string& raw,
                              copy_options& options) {
  check_ignored(r, raw, step_checks_);
  const auto& os = s.platform->os;
  auto path = raw;
  std::vector<std::string> patterns, required;
  if (r.parents) {
    // What comes before "/./" is not reproduced.
    auto [parent, rest, has_pivot] = cut(raw, "/./");
    path = has_pivot ? parent : "/";
    auto pattern = normalize_path("/", has_pivot ? rest : raw, os, false);
    if (!pattern) return std::move(pattern).error().with_context("removing drive letter");
    patterns.push_back(pattern->starts_with('/') ? pattern->substr(1) : *pattern);
    if (!has_wildcard(path) && !has_wildcard(*pattern)) {
      KILN_TRY(auto full, normalize_path("/", path_join(path, *pattern), os, false));
      required.push_back(std::move(full));
    }
  }
  auto source = normalize_path("/", path, os, false);
  if (!source) return std::move(source).error().with_context("removing drive letter");
  auto& copy = options.add(r.source.out, llb::normalize_file_path("/", *source, false), r.excludes);
  copy.set_followsymlink(true);
  copy.set_dircopycontents(true);
  copy.set_attemptunpackdockercompatibility(r.unpack.value_or(r.is_add));
  copy.set_allowwildcard(true);
  copy.set_allowemptywildcard(true);
  for (auto& pattern : patterns) copy.add_include_patterns(std::move(pattern));
  for (auto& path_required : required) copy.add_required_paths(std::move(path_required));
  return {};
}

status converter::copy(stage_state& s, const copy_request& r) {
  const auto& places = *r.places;
  const auto& os = s.platform->os;
  auto wanted = without_drive(places.dest, os, true);
  if (!wanted) return std::move(wanted).error().with_context("removing drive letter");
  auto dest = *wanted == "." || wanted->empty() ? std::string("./") : *wanted;
  copy_options options;
  KILN_TRY(options.dest, normalize_path(is_absolute(dest, os) ? "/" : s.state.dir, dest, os, true));
  options.dest = llb::normalize_file_path(s.state.dir, options.dest, true);
  if (!r.chown.empty()) options.owner = llb::chown_option(r.chown);
  if (!r.chmod.empty()) {
    KILN_CHECK(check_chmod(r.chmod, options.mode));
    if (!options.mode) options.mode_text = r.chmod;
  }
  if (!r.checksum.empty()) {
    if (!r.is_add) return invalid("checksum can't be specified for COPY");
    if (places.paths.size() != 1) return invalid("checksum can't be specified for multiple sources");
    if (!is_http_source(places.paths[0]) && !is_git_source(places.paths[0]))
      return invalid("checksum requires HTTP(S) or Git sources");
  }
  options.checksum = r.checksum;
  options.keep_git_dir = r.keep_git_dir;

  std::string message = r.is_add ? "ADD" : "COPY";
  if (r.parents) message += " --parents";
  if (!r.chown.empty()) message += " --chown=" + r.chown;
  if (!r.chmod.empty()) message += " --chmod=" + r.chmod;
  list_environment env(s.state.env);
  auto name = uppercase_keyword(expanded_label(words_, r.base->code, env));
  options.label = prefix(s, name, s.platform, env);

  for (const auto& path : places.paths) {
    message += " " + path;
    auto git = parse_git_ref(path);
    if (git.problem) return *git.problem;
    if (git.ref && !git.ref->looks_local) KILN_CHECK(git_source(s, r, path, options));
    else if (is_http_source(path)) KILN_CHECK(http_source(s, r, path, options));
    else KILN_CHECK(file_source(s, r, path, options));
  }
  for (const auto& document : places.inlines) {
    message += " <<" + document.path;
    KILN_TRY(auto file, without_drive(document.path, os, false));
    auto path = llb::normalize_file_path("/", file, false);
    llb::op_info info;
    info.name("[internal] preparing inline document");
    std::vector<llb::file_step> steps;
    steps.push_back(llb::mkfile_step(path, 0644, document.data));
    options.add(llb::file(graph_, {}, std::move(steps), std::move(info)), path, r.excludes);
  }
  message += " " + places.dest;

  llb::op_info info;
  info.name(options.label);
  info.locations = locations(r.base->location);
  info.ignore_cache = s.ignore_cache;
  if (r.link && r.chmod.empty()) {
    // The files on their own, laid over whatever is below.
    pb::ProgressGroup group;
    group.set_id(new_id());
    --s.step_index;
    group.set_name(prefix(s, name, s.platform, env));
    auto merge_info = info;
    merge_info.progress_group = group;
    --s.step_index;
    merge_info.name(prefix(s, "LINK " + name, s.platform, env));
    group.set_weak(true);
    info.progress_group = group;
    auto files = llb::file(graph_, {}, std::move(options.steps), std::move(info));
    s.state = s.state.with(llb::merge(graph_, {s.state.out, files}, std::move(merge_info)));
  } else {
    s.state = s.state.with(llb::file(graph_, s.state.out, std::move(options.steps), std::move(info)));
  }
  commit(s, message, true, true);
  return {};
}

}  // namespace kiln::dockerfile
