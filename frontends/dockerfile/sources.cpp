#include "frontends/dockerfile/sources.hpp"

#include "configs/frontends.hpp"
#include "frontends/dockerfile/git_ref.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace gw = moby::buildkit::v1::frontend;

namespace {

constexpr std::string_view ignore_file = ".dockerignore";

llb::op_info internal(const std::string& name) {
  llb::op_info info;
  info.name("[internal] " + name);
  return info;
}

// A tar header: its checksum field equals the sum of its bytes.
bool is_tar_header(std::string_view block) {
  if (block.size() < 512) return false;
  auto field = block.substr(148, 8);
  std::uint64_t expected = 0;
  bool any = false;
  for (auto c : field) {
    if (c >= '0' && c <= '7') expected = expected * 8 + static_cast<std::uint64_t>(c - '0'), any = true;
    else if (c != ' ' && c != '\0') return false;
  }
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < 512; ++i)
    sum += i >= 148 && i < 156 ? static_cast<unsigned char>(' ') : static_cast<unsigned char>(block[i]);
  return any && sum == expected;
}

bool is_archive(std::string_view head) {
  using namespace std::literals;
  return head.starts_with("BZh"sv) || head.starts_with("\x1f\x8b\x08"sv) ||
         head.starts_with("\xfd\x37zXZ\0"sv) || is_tar_header(head);
}

llb::output subdirectory(llb::graph& graph, llb::output context, const std::string& dir) {
  llb::file_step step;
  auto& copy = *step.action.mutable_copy();
  copy.set_src(clean_absolute(dir));
  copy.set_dest("/");
  copy.set_dircopycontents(true);
  copy.set_mode(-1);
  copy.set_timestamp(-1);
  step.copy_source = context;
  return llb::file(graph, {}, {std::move(step)}, {});
}

}  // namespace

std::vector<std::string> read_ignore_file(std::string_view text) {
  std::vector<std::string> out;
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  for (const auto& raw : split(text, '\n')) {
    if (raw.starts_with('#')) continue;
    auto pattern = trim_space(raw);
    if (pattern.empty()) continue;
    bool invert = pattern[0] == '!';
    if (invert) pattern = trim_space(pattern.substr(1));
    std::string clean;
    if (!pattern.empty()) {
      clean = clean_path(pattern);
      if (clean.size() > 1 && clean[0] == '/') clean.erase(0, 1);
    }
    out.push_back((invert ? "!" : "") + clean);
  }
  return out;
}

kiln::platform build_sources::default_platform() const {
  auto all = host_.platforms();
  return all.empty() ? normalize(host_platform()) : all.front();
}

result<pb::Definition> build_sources::marshal(const llb::output& out) const {
  return llb::marshal(out, {normalize(host_platform())});
}

result<std::string> build_sources::solve(const pb::Definition& definition, bool evaluate) {
  gw::SolveRequest request;
  *request.mutable_definition() = definition;
  request.set_allowresultreturn(true);
  request.set_allowresultarrayref(true);
  request.set_evaluate(evaluate);
  KILN_TRY(auto response, host_.solve(request));
  if (!response.has_result()) return response.ref();
  const auto& r = response.result();
  if (r.has_ref()) return r.ref().id();
  if (r.has_refs() || r.has_refsdeprecated())
    return make_error(errc::internal, "expected a single ref from solve, got a map");
  return r.refdeprecated();
}

result<std::string> build_sources::read_file(const std::string& ref, const std::string& path,
                                             std::int64_t length) {
  gw::ReadFileRequest request;
  request.set_ref(ref);
  request.set_filepath(path);
  if (length > 0) request.mutable_range()->set_length(length);
  KILN_TRY(auto response, host_.read_file(request));
  return std::move(*response.mutable_data());
}

std::string build_sources::session_for(const std::string& local_name) const {
  return options_.get("local-sessionid:" + local_name).value_or(host_.session_id());
}

result<llb::output> build_sources::git_output(const std::string& text, bool main) {
  auto found = parse_git_ref(text);
  if (found.problem) return *found.problem;
  if (!found.ref) return make_error(errc::invalid_argument, "invalid git context " + text);
  auto git = found.ref->options();
  if (main) {
    if (auto keep = options_.get("build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR");
        keep && parse_bool(*keep).value_or(false))
      git.keep_git_dir = true;
    if (git.mtime.empty() && !options_.get("build-arg:SOURCE_DATE_EPOCH").value_or("").empty())
      git.mtime = "commit";
  }
  return llb::git(graph_, git, internal("load git source " + text));
}

status build_sources::init_git(main_sources& out, const std::string& context, bool& found) {
  found = parse_git_ref(context).is_git;
  if (!found) return {};
  KILN_TRY(out.context, git_output(context, true));
  out.dockerfile = out.context;
  return {};
}

status build_sources::init_http(main_sources& out, const std::string& url) {
  const std::string filename = "context";
  auto source = llb::http(graph_, url, {"", filename}, internal("load remote build context"));
  KILN_TRY(auto definition, marshal(source));
  auto ref = solve(definition);
  if (!ref) return std::move(ref).error().with_context("failed to resolve httpcontext");
  auto head = read_file(*ref, filename, configs::context_probe_size);
  if (!head) return std::move(head).error().with_context("failed to read downloaded context");
  if (is_archive(*head)) {
    llb::file_step step;
    auto& copy = *step.action.mutable_copy();
    copy.set_src("/" + filename);
    copy.set_dest("/");
    copy.set_attemptunpackdockercompatibility(true);
    copy.set_mode(-1);
    copy.set_timestamp(-1);
    step.copy_source = source;
    out.context = llb::file(graph_, {}, {std::move(step)}, {});
  } else {
    out.filename = filename;
    out.context = source;
  }
  out.dockerfile = out.context;
  return {};
}

status build_sources::init_inputs(main_sources& out) {
  auto input = [&](const std::string& name) -> result<std::optional<llb::output>> {
    auto at = inputs_.find(name);
    if (at == inputs_.end()) return std::optional<llb::output>{};
    if (at->second.def_size() == 0)
      return make_error(errc::invalid_argument, "invalid nil input definition to definition op");
    KILN_TRY(auto imported, llb::import_definition(graph_, at->second));
    return std::optional(imported);
  };
  if (!out.force_local_dockerfile) {
    KILN_TRY(out.dockerfile, input(out.dockerfile_name));
  }
  KILN_TRY(out.context, input("context"));
  return {};
}

result<build_sources::main_sources> build_sources::init() {
  main_sources out;
  auto context_key = options_.get("contextkey").value_or("context");
  if (auto name = options_.get("filename")) out.filename = *name;
  if (auto name = options_.get("dockerfilekey")) {
    out.force_local_dockerfile = true;
    out.dockerfile_name = *name;
  }
  auto context = options_.get(context_key).value_or("");
  bool is_git = false;
  KILN_CHECK(init_git(out, context, is_git));
  if (!is_git) {
    if (context.starts_with("http://") || context.starts_with("https://"))
      KILN_CHECK(init_http(out, context));
    else KILN_CHECK(init_inputs(out));
  }
  if (auto dir = options_.get("contextsubdir"); dir && out.context)
    out.context = subdirectory(graph_, *out.context, *dir);
  return out;
}

// Call with the mutex held.
result<const build_sources::main_sources*> build_sources::main() {
  if (!main_) {
    KILN_TRY(auto fresh, init());
    main_ = std::move(fresh);
  }
  return &*main_;
}

result<std::shared_ptr<const llb::source_map>> build_sources::read_dockerfile() {
  std::lock_guard lock(mutex_);
  KILN_TRY(const auto* m, main());
  bool is_default_name = path_base(m->filename) == "Dockerfile";
  auto lower_name = path_join(path_dir(m->filename), "dockerfile");
  llb::output source;
  if (m->dockerfile && !m->force_local_dockerfile) {
    source = *m->dockerfile;
  } else {
    llb::local_options local;
    local.follow_paths = {m->filename, m->filename + std::string(ignore_file)};
    if (is_default_name) local.follow_paths.push_back(lower_name);
    local.session_id = session_for(m->dockerfile_name);
    local.shared_key_hint = m->dockerfile_name;
    local.differ = "none";
    source =
        llb::local(graph_, m->dockerfile_name, local, internal("load build definition from " + m->filename));
  }
  auto map = std::make_shared<llb::source_map>();
  KILN_TRY(map->definition, marshal(source));
  map->head_digest = llb::head_digest(map->definition);
  map->filename = m->filename;
  map->language = "Dockerfile";
  auto ref = solve(map->definition);
  if (!ref) return std::move(ref).error().with_context("failed to resolve dockerfile");
  auto data = read_file(*ref, m->filename);
  if (!data && is_default_name)
    if (auto lower = read_file(*ref, lower_name)) data = std::move(lower);
  if (!data) return std::move(data).error().with_context("failed to read dockerfile");
  map->data = *std::move(data);
  if (auto ignore = read_file(*ref, m->filename + std::string(ignore_file))) {
    dockerignore_ = *std::move(ignore);
    dockerignore_name_ = m->filename + std::string(ignore_file);
  }
  return std::shared_ptr<const llb::source_map>(std::move(map));
}

result<std::vector<std::string>> build_sources::patterns_locked(const main_sources& m) {
  if (!dockerignore_) {
    llb::local_options local;
    local.session_id = session_for(m.context_name);
    local.follow_paths = {std::string(ignore_file)};
    local.shared_key_hint = m.context_name + "-" + std::string(ignore_file);
    local.differ = "none";
    auto source = llb::local(graph_, m.context_name, local, internal("load " + std::string(ignore_file)));
    KILN_TRY(auto definition, marshal(source));
    KILN_TRY(auto ref, solve(definition));
    auto data = read_file(ref, std::string(ignore_file));
    dockerignore_ = data ? *std::move(data) : std::string();
    dockerignore_name_ = ignore_file;
  }
  return read_ignore_file(*dockerignore_);
}

result<std::vector<std::string>> build_sources::ignore_patterns() {
  std::lock_guard lock(mutex_);
  KILN_TRY(const auto* m, main());
  if (m->context) return std::vector<std::string>{};
  return patterns_locked(*m);
}

result<llb::output> build_sources::main_context(const std::vector<std::string>& follow_paths) {
  std::lock_guard lock(mutex_);
  KILN_TRY(const auto* m, main());
  if (m->context) return *m->context;
  auto patterns = patterns_locked(*m);
  if (!patterns) return std::move(patterns).error().with_context("failed to read dockerignore patterns");
  llb::local_options local;
  local.session_id = session_for(m->context_name);
  local.exclude_patterns = *std::move(patterns);
  local.shared_key_hint = m->context_name;
  local.follow_paths = follow_paths;
  return llb::local(graph_, m->context_name, local, internal("load build context"));
}

result<gw::ResolveImageConfigResponse> build_sources::ask_image(
    const gw::ResolveImageConfigRequest& request) {
  return host_.resolve_image_config(request);
}

result<resolved_image> build_sources::resolve_image(const std::string& reference,
                                                    const std::optional<kiln::platform>& platform,
                                                    const std::string& log_name) {
  gw::ResolveImageConfigRequest request;
  request.set_ref(reference);
  request.set_logname(log_name);
  request.set_resolvemode(options_.image_resolve_mode);
  if (platform) to_proto(*platform, *request.mutable_platform());
  std::shared_ptr<pending_image> pending;
  {
    std::lock_guard lock(images_mutex_);
    auto& slot = images_[request.SerializeAsString()];
    if (!slot) slot = std::make_shared<pending_image>();
    pending = slot;
  }
  std::call_once(pending->once, [&] {
    auto response = ask_image(request);
    if (!response) pending->answer.emplace(std::move(response).error());
    else
      pending->answer.emplace(resolved_image{response->ref().empty() ? reference : response->ref(),
                                             response->digest(), response->config()});
  });
  return *pending->answer;
}

}  // namespace kiln::dockerfile
