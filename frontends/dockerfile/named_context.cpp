// Named contexts: images, OCI layouts, git and http sources, local directories and frontend inputs in the
// place of stages and base images.
#include "base/base64.hpp"
#include "base/json_text.hpp"
#include "frontends/dockerfile/git_ref.hpp"
#include "frontends/dockerfile/refusal.hpp"
#include "frontends/dockerfile/sources.hpp"
#include "frontends/dockerfile/text.hpp"
#include "messages/image_reference.hpp"
#include "solver/error_details.hpp"

namespace kiln::dockerfile {

namespace gw = moby::buildkit::v1::frontend;

namespace {

constexpr int oci_layout_resolver = 1;

std::string drop_slashes(std::string text) {
  if (text.starts_with("//")) text.erase(0, 2);
  return text;
}

}  // namespace

llb::state with_image_config(llb::state state, const image_config& image) {
  for (const auto& entry : image.env)
    if (auto [key, value] = split_env(entry); !key.empty()) state.env.set(key, value);
  state.dir =
      image.working_dir.starts_with('/') ? image.working_dir : path_join(state.dir, image.working_dir);
  if (!image.platform.os.empty() && !image.platform.architecture.empty())
    state.platform = normalize(image.platform);
  return state;
}

result<std::optional<named_context>> build_sources::find_context(
    const std::string& raw_name, const std::optional<kiln::platform>& platform) const {
  auto ref = parse_image_reference(raw_name);
  if (!ref) return std::move(ref).error().with_context("invalid context name " + raw_name);
  auto name = ref->familiar();
  if (name.ends_with(":latest")) name.resize(name.size() - 7);
  auto of_platform = name + "::" + format_platform(normalize(platform.value_or(host_platform())));
  for (const auto& key : {of_platform, name})
    if (auto specifier = options_.get("context:" + key))
      return std::optional(named_context{*specifier, name, key});
  return std::optional<named_context>{};
}

result<loaded_context> build_sources::load_context(const named_context& c, const context_request& request) {
  auto [scheme, rest, found] = cut(c.specifier, ":");
  if (!found) return invalid("invalid context specifier " + c.specifier + " for " + c.name_with_platform);
  if (scheme.starts_with("git@")) scheme = "git";
  if (scheme == "docker-image") return load_image(c, drop_slashes(rest), request);
  if (scheme == "oci-layout") return load_oci_layout(c, drop_slashes(rest), request);
  if (scheme == "local") return load_local(c, rest, request);
  if (scheme == "input") return load_input(c, rest);
  loaded_context out;
  if (scheme == "git" || ((scheme == "http" || scheme == "https") && parse_git_ref(c.specifier).is_git)) {
    KILN_TRY(out.state.out, git_output(c.specifier, false));
    return out;
  }
  if (scheme == "http" || scheme == "https") {
    llb::op_info info;
    info.name("[context " + c.name_with_platform + "] " + c.specifier);
    out.state.out = llb::http(graph_, c.specifier, {"", "context"}, std::move(info));
    return out;
  }
  return invalid("unsupported context source " + scheme + " for " + c.name_with_platform);
}

result<loaded_context> build_sources::load_image(const named_context& c, const std::string& text,
                                                 const context_request& request) {
  loaded_context out;
  if (text == "scratch") return out;
  KILN_TRY(auto ref, parse_image_reference(text));
  auto label = "[context " + c.name_with_platform + "] ";
  auto resolved = resolve_image(ref.tagged().str(), request.platform, label + "load metadata for " + text);
  if (!resolved.ok()) {
    // A policy has made something else of it: that is the context. Source: BuildKit
    // frontend/dockerui/namedcontext.go.
    auto instead = solver::replaced_image_of(resolved.error());
    auto [scheme, rest, other] = cut(instead, "://");
    if (!other) return std::move(resolved).error();
    return load_context({std::string(scheme) + ":" + std::string(rest), c.name, c.name_with_platform},
                        request);
  }
  KILN_TRY(auto image, parse_image_config(resolved->config.empty() ? "{}" : resolved->config));
  image.created.clear();
  KILN_TRY(auto final_ref, parse_image_reference(resolved->reference));
  llb::op_info info;
  info.name(label + text);
  info.platform = request.platform;
  out.state.out = llb::image(graph_, final_ref.tagged().str(), "", std::move(info));
  out.state.platform = request.platform;
  out.state = with_image_config(std::move(out.state), image);
  out.image = std::move(image);
  return out;
}

result<loaded_context> build_sources::load_oci_layout(const named_context& c, const std::string& text,
                                                      const context_request& request) {
  auto at = text.find('@');
  if (at == std::string::npos) return invalid("oci-layout reference " + quote(text) + " has no digest");
  auto store = text.substr(0, at);
  if (auto colon = store.find(':', store.rfind('/') == std::string::npos ? 0 : store.rfind('/'));
      colon != std::string::npos)
    store.resize(colon);
  if (store.empty()) return invalid("oci-layout reference " + quote(text) + " has no name");
  auto dummy = parse_image_reference(c.name);
  if (!dummy)
    return std::move(dummy).error().with_context("could not parse oci-layout reference " + quote(c.name));
  auto digest = kiln::digest::parse(text.substr(at + 1));
  if (!digest)
    return std::move(digest).error().with_context("could not parse oci-layout reference " + quote(text));
  dummy->digest = *std::move(digest);
  auto label = "[context " + c.name_with_platform + "] ";
  gw::ResolveImageConfigRequest ask;
  ask.set_ref(dummy->str());
  ask.set_logname(label + "load metadata for " + dummy->str());
  ask.set_resolvertype(oci_layout_resolver);
  ask.set_sessionid(host_.session_id());
  ask.set_storeid(store);
  if (request.platform) to_proto(*request.platform, *ask.mutable_platform());
  KILN_TRY(auto resolved, ask_image(ask));
  auto image = parse_image_config(resolved.config());
  if (!image) return std::move(image).error().with_context("could not parse oci-layout image config");
  llb::op_info info;
  info.name(label + "OCI load from client");
  info.platform = request.platform;
  loaded_context out;
  out.state.out = llb::oci_layout(graph_, dummy->str(), host_.session_id(), store, std::move(info));
  out.state.platform = request.platform;
  out.state = with_image_config(std::move(out.state), *image);
  out.image = *std::move(image);
  return out;
}

result<loaded_context> build_sources::load_local(const named_context& c, const std::string& name,
                                                 const context_request& request) {
  auto session = session_for(name);
  auto label = "[context " + c.name_with_platform + "] ";
  auto hint = "context:" + c.name_with_platform + "-";
  llb::local_options ignore;
  ignore.session_id = session;
  ignore.follow_paths = {".dockerignore"};
  ignore.shared_key_hint = hint + ".dockerignore";
  ignore.differ = "none";
  llb::op_info ignore_info;
  ignore_info.name(label + "load .dockerignore");
  KILN_TRY(auto definition, marshal(llb::local(graph_, name, ignore, std::move(ignore_info))));
  KILN_TRY(auto ref, solve(definition, true));
  llb::local_options local;
  if (auto data = read_file(ref, ".dockerignore")) local.exclude_patterns = read_ignore_file(*data);
  local.session_id = session;
  local.shared_key_hint = hint + options_.get("sharedkey:localdir:" + c.name_with_platform).value_or("");
  // Which paths are used is known when all stages are.
  auto* deferred = graph_.make<llb::deferred_vertex>();
  auto bind = [this, deferred, local, name, label, paths = request.follow_paths]() mutable {
    if (paths) local.follow_paths = paths();
    llb::op_info info;
    info.name(label + "load from client");
    deferred->bind(llb::local(graph_, name, local, std::move(info)));
  };
  if (request.finish != nullptr) request.finish->push_back(std::move(bind));
  else bind();
  loaded_context out;
  out.state.out = {deferred, 0};
  return out;
}

result<loaded_context> build_sources::load_input(const named_context& c, const std::string& name) {
  auto at = inputs_.find(name);
  if (at == inputs_.end()) return invalid("invalid input " + name + " for " + c.name_with_platform);
  loaded_context out;
  KILN_TRY(out.state.out, llb::import_definition(graph_, at->second));
  if (out.state.out) out.state.platform = out.state.out.node->info().platform;
  auto text = options_.get("input-metadata:" + name);
  if (!text) return out;
  auto metadata = json_or_null(*text);
  if (!metadata.is_object()) return invalid("failed to parse input metadata " + *text);
  auto config = metadata.find("containerimage.config");
  if (config == metadata.end() || config->is_null()) return out;
  auto decoded = config->is_string() ? base64_decode(text_value(*config)) : std::nullopt;
  if (!decoded) return invalid("failed to parse input metadata " + *text);
  auto image = parse_image_config(*decoded);
  if (!image)
    return std::move(image).error().with_context("failed to parse image config for " + c.name_with_platform);
  out.state = with_image_config(std::move(out.state), *image);
  out.image = *std::move(image);
  return out;
}

}  // namespace kiln::dockerfile
