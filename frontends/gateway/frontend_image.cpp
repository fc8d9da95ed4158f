#include "frontends/gateway/frontend_image.hpp"

#include <algorithm>
#include <array>

#include "base/json_text.hpp"
#include "base/text.hpp"
#include "frontends/dockerfile/image_config.hpp"
#include "frontends/dockerfile/options.hpp"
#include "frontends/dockerfile/sources.hpp"
#include "frontends/llb/ops.hpp"

namespace kiln::frontends {

namespace {

using json = nlohmann::ordered_json;

constexpr auto inputs_capability = "moby.buildkit.frontend.inputs";

/// Releases of docker/dockerfile that take inputs and do not say so: 1.1.6, 1.1.7, and both as
/// "experimental". Source: BuildKit frontend/gateway/gateway.go addCapsForKnownFrontends.
constexpr std::array<std::string_view, 4> silent_releases = {
    "sha256:9ac1c43a60e31dca741a6fe8314130a9cd4c4db0311fbbc636ff992ef60ae76d",
    "sha256:080bd74d8778f83e7b670de193362d8c593c8b14f5c8fb919d28ee8feda0d069",
    "sha256:60543a9d92b92af5088fb2938fb09b2072684af8384399e153e137fe081f8ab4",
    "sha256:de85b2f3a3e8a2f7fe48e8e84a65f6fdd5cd5183afa6412fff9caa6871649c44"};

std::vector<std::string> strings_of(const json& j, const char* key) {
  std::vector<std::string> out;
  if (auto found = j.find(key); found != j.end() && found->is_array())
    for (const auto& s : *found)
      if (s.is_string()) out.push_back(text_value(s));
  return out;
}

status read_config(const std::string& text, const std::string& name, frontend_image& out) {
  auto document = parse_json<json>(text);
  if (!document.ok()) return std::move(document).error().with_context("config of frontend image " + name);
  const auto* found = member_of(*document, "config");
  if (!found || !found->is_object()) return {};
  const auto& config = *found;
  if (auto entrypoint = strings_of(config, "Entrypoint"); !entrypoint.empty())
    out.entrypoint = std::move(entrypoint);
  out.env = strings_of(config, "Env");
  if (auto cwd = text_member(config, "WorkingDir"); !cwd.empty()) out.cwd = cwd;
  if (const auto* labels = member_of(config, "Labels")) out.labels = text_members(*labels);
  return {};
}

void take_config(const dockerfile::image_config& config, frontend_image& out) {
  if (!config.entrypoint.empty()) out.entrypoint = config.entrypoint;
  out.env = config.env;
  if (!config.working_dir.empty()) out.cwd = config.working_dir;
  if (config.labels) out.labels = *config.labels;
}

/// A frontend of the registry, marked as one: what it takes on the disk is told as a frontend's.
result<frontend_image> from_registry(frontend_host& host, const image_reference& name) {
  gw::ResolveImageConfigRequest question;
  question.set_ref(name.tagged().str());
  question.set_logname("resolve image config for docker-image://" + question.ref());
  KILN_TRY(auto answer, host.resolve_image_config(question));
  frontend_image out;
  KILN_TRY(auto resolved, parse_image_reference(answer.ref().empty() ? question.ref() : answer.ref()));
  if (!answer.digest().empty()) {
    KILN_TRY(resolved.digest, kiln::digest::parse(answer.digest()));
  }
  out.digest = answer.digest();
  KILN_CHECK(read_config(answer.config(), resolved.str(), out));
  llb::graph graph;
  llb::op_info info;
  info.caps.insert("source.image");
  auto source = llb::source(graph, "docker-image://" + resolved.str(), {{"image.recordtype", "frontend"}},
                            std::move(info));
  KILN_TRY(out.definition, llb::marshal(source, {normalize(host_platform())}));
  return out;
}

/// A named context, with the options of the build read as for a Dockerfile's.
struct context_reader {
  dockerfile::build_options options;
  llb::graph graph;
  std::optional<dockerfile::build_sources> sources;

  status open(frontend_host& host, const frontend_request& request) {
    KILN_TRY(options, dockerfile::parse_build_options(request.options));
    sources.emplace(host, options, request.inputs, graph);
    return {};
  }
};

bool gives_contexts(const frontend_request& request) {
  auto first = request.options.lower_bound("context:");
  return first != request.options.end() && first->first.starts_with("context:");
}

}  // namespace

std::vector<std::string> capability_names(const std::string& list) {
  std::vector<std::string> out;
  for (auto part : split_views(list, ',')) {
    auto name = trim(part.substr(0, part.find('+')));
    if (!name.empty()) out.emplace_back(name);
  }
  return out;
}

bool frontend_image::has_capability(const std::string& capability) const {
  if (capability == inputs_capability &&
      std::find(silent_releases.begin(), silent_releases.end(), digest) != silent_releases.end())
    return true;
  auto label = labels.find("moby.buildkit.frontend.caps");
  if (label == labels.end()) return false;
  auto names = capability_names(label->second);
  return std::find(names.begin(), names.end(), capability) != names.end();
}

result<bool> is_replaced(frontend_host& host, const frontend_request& request, const std::string& source) {
  if (!gives_contexts(request)) return false;
  context_reader reader;
  KILN_CHECK(reader.open(host, request));
  KILN_TRY(auto context, reader.sources->find_context(source, std::nullopt));
  return context.has_value();
}

result<frontend_image> load_frontend_image(frontend_host& host, const frontend_request& request,
                                           const std::string& source, const image_reference& name) {
  if (!gives_contexts(request)) return from_registry(host, name);
  context_reader reader;
  KILN_CHECK(reader.open(host, request));
  KILN_TRY(auto context, reader.sources->find_context(source, std::nullopt));
  if (!context) return from_registry(host, name);
  KILN_TRY(auto loaded, reader.sources->load_context(*context, {}));
  frontend_image out;
  if (loaded.image) take_config(*loaded.image, out);
  KILN_TRY(out.definition, reader.sources->marshal(loaded.state.out));
  return out;
}

}  // namespace kiln::frontends
