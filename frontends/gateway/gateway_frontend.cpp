#include "frontends/gateway/gateway_frontend.hpp"

#include <algorithm>
#include <set>

#include "base/json_text.hpp"
#include "frontends/llb/ops.hpp"
#include "messages/image_reference.hpp"

namespace kiln::frontends {

namespace {

using json = nlohmann::ordered_json;

error invalid(std::string text) { return make_error(errc::invalid_argument, std::move(text)); }

/// What of an image's config matters here.
struct frontend_image {
  std::string reference;  // with the digest, where there is one
  std::vector<std::string> entrypoint{"/run"};
  std::vector<std::string> env;
  std::string cwd = "/";
  std::map<std::string, std::string> labels;
};

std::vector<std::string> strings_of(const json& j, const char* key) {
  std::vector<std::string> out;
  if (auto found = j.find(key); found != j.end() && found->is_array())
    for (const auto& s : *found)
      if (s.is_string()) out.push_back(text_value(s));
  return out;
}

status read_config(const std::string& text, frontend_image& out) {
  auto document = parse_json<json>(text);
  if (!document.ok())
    return std::move(document).error().with_context("config of frontend image " + out.reference);
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

std::set<std::string> caps_of(const std::string& list) {
  std::set<std::string> out;
  for (std::size_t at = 0; at < list.size();) {
    auto end = std::min(list.find(',', at), list.size());
    auto cap = list.substr(at, end - at);
    cap.erase(0, cap.find_first_not_of(' '));
    cap.erase(cap.find_last_not_of(' ') + 1);
    cap = cap.substr(0, cap.find('+'));
    if (!cap.empty()) out.insert(cap);
    at = end + 1;
  }
  return out;
}

error unsupported(const std::string& cap) {
  auto e = make_error(errc::unimplemented, "unsupported frontend capability " + cap);
  e.details.push_back({"github.com/moby/buildkit/errdefs.FrontendCap+json", go_json(json{{"name", cap}})});
  return e;
}

/// The workers as frontends know them from their environment.
std::string workers_json(frontend_host& host) {
  json platforms = json::array();
  for (const auto& p : host.platforms()) {
    json one{{"architecture", p.architecture}, {"os", p.os}};
    if (!p.variant.empty()) one["variant"] = p.variant;
    platforms.push_back(std::move(one));
  }
  return go_json(
      json::array({json{{"ID", "default"}, {"Labels", json::object()}, {"Platforms", platforms}}}));
}

class gateway_frontend final : public frontend {
 public:
  gateway_frontend(frontend_runner runner, std::vector<std::string> allowed)
      : runner_(std::move(runner)), allowed_(std::move(allowed)) {}

  result<gw::Result> solve(frontend_host& host, const frontend_request& request) override {
    if (request.options.contains("gateway-devel"))
      return invalid("development gateway is no longer supported");
    auto source = request.options.find("source");
    if (source == request.options.end()) return invalid("no source specified for gateway");
    KILN_TRY(auto name, parse_image_reference(source->second));
    KILN_CHECK(check_allowed(source->second, name));
    KILN_TRY(auto image, resolve(host, request, name));
    KILN_CHECK(check_caps(image, request));
    KILN_TRY(auto ref, root_of(host, image));

    frontend_process process;
    process.ref = std::move(ref);
    process.args = image.entrypoint;
    process.env = image.env;
    process.cwd = image.cwd;
    process.inputs = request.inputs;
    int n = 0;
    for (const auto& [key, value] : request.options)
      process.env.push_back("BUILDKIT_FRONTEND_OPT_" + std::to_string(n++) + "=" + key + "=" + value);
    process.env.push_back("BUILDKIT_SESSION_ID=" + host.session_id());
    process.env.push_back("BUILDKIT_WORKERS=" + workers_json(host));
    process.env.emplace_back("BUILDKIT_EXPORTEDPRODUCT=");
    auto label = image.labels.find("moby.buildkit.frontend.network.none");
    process.no_network = label != image.labels.end() && (label->second == "true" || label->second == "1");
    return runner_(host, process);
  }

 private:
  status check_allowed(const std::string& source, const image_reference& name) const {
    if (allowed_.empty() || std::find(allowed_.begin(), allowed_.end(), name.name()) != allowed_.end())
      return {};
    return make_error(errc::permission_denied, "'" + source + "' is not an allowed gateway source");
  }

  static result<frontend_image> resolve(frontend_host& host, const frontend_request&,
                                        const image_reference& name) {
    gw::ResolveImageConfigRequest question;
    question.set_ref(name.tagged().str());
    question.set_logname("resolve image config for " + question.ref());
    KILN_TRY(auto answer, host.resolve_image_config(question));
    frontend_image out;
    KILN_TRY(auto resolved, parse_image_reference(answer.ref().empty() ? question.ref() : answer.ref()));
    out.reference = resolved.str();
    if (!answer.digest().empty() && out.reference.find('@') == std::string::npos)
      out.reference += "@" + answer.digest();
    KILN_CHECK(read_config(answer.config(), out));
    return out;
  }

  static status check_caps(const frontend_image& image, const frontend_request& request) {
    auto label = image.labels.find("moby.buildkit.frontend.caps");
    auto has = caps_of(label == image.labels.end() ? "" : label->second);
    auto wanted = request.options.find("frontend.caps");
    auto needs = caps_of(wanted == request.options.end() ? "" : wanted->second);
    if (!request.inputs.empty()) needs.insert("moby.buildkit.frontend.inputs");
    for (const auto& cap : needs)
      if (!has.contains(cap)) return unsupported(cap);
    return {};
  }

  static result<std::string> root_of(frontend_host& host, const frontend_image& image) {
    llb::graph graph;
    KILN_TRY(auto definition,
             llb::marshal(llb::image(graph, image.reference, "", {}), {normalize(host_platform())}));
    gw::SolveRequest question;
    *question.mutable_definition() = definition;
    question.set_allowresultreturn(true);
    question.set_allowresultarrayref(true);
    KILN_TRY(auto answer, host.solve(question));
    if (!answer.result().has_ref() || answer.result().ref().id().empty())
      return make_error(errc::internal, "gateway source didn't return default result");
    return answer.result().ref().id();
  }

  frontend_runner runner_;
  std::vector<std::string> allowed_;
};

}  // namespace

std::unique_ptr<frontend> make_gateway_frontend(frontend_runner runner, std::vector<std::string> allowed) {
  return std::make_unique<gateway_frontend>(std::move(runner), std::move(allowed));
}

}  // namespace kiln::frontends
