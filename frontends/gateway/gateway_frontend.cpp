#include "frontends/gateway/gateway_frontend.hpp"

#include <algorithm>

#include "base/json_text.hpp"
#include "frontends/gateway/frontend_image.hpp"
#include "frontends/gateway/stand_in.hpp"
#include "messages/told_code.hpp"

namespace kiln::frontends {

namespace {

using json = nlohmann::ordered_json;

// What calls itself so is known to clients by it. Source: BuildKit util/apicaps, cmd/buildkitd.
constexpr auto exported_product = "buildkit";

error refuse(std::string text) { return make_error(errc::invalid_argument, std::move(text)); }

error unsupported(const std::string& cap) {
  auto e = make_error(errc::unimplemented, "unsupported frontend capability " + cap);
  e.details.push_back({"github.com/moby/buildkit/errdefs.FrontendCap+json", go_json(json{{"name", cap}})});
  return told_as(errc::unimplemented, std::move(e));
}

/// The workers as frontends know them from their environment: a list of client.WorkerInfo.
std::string workers_json(frontend_host& host) {
  const auto& worker = host.worker();
  json labels = json::object();
  std::map<std::string, std::string> sorted(worker.labels().begin(), worker.labels().end());
  for (const auto& [key, value] : sorted) labels[key] = value;
  json platforms = json::array();
  for (const auto& p : host.platforms()) {
    json one{{"architecture", p.architecture}, {"os", p.os}};
    if (!p.os_version.empty()) one["os.version"] = p.os_version;
    if (!p.os_features.empty()) one["os.features"] = p.os_features;
    if (!p.variant.empty()) one["variant"] = p.variant;
    platforms.push_back(std::move(one));
  }
  const auto& v = worker.buildkitversion();
  json version{{"package", v.package()}, {"version", v.version()}, {"revision", v.revision()}};
  if (!v.dockerfileversion().empty()) version["dockerfileVersion"] = v.dockerfileversion();
  return go_json(json::array({json{{"id", worker.id()},
                                   {"labels", std::move(labels)},
                                   {"platforms", std::move(platforms)},
                                   {"gcPolicy", nullptr},
                                   {"buildkitVersion", std::move(version)},
                                   {"cdiDevices", nullptr}}}));
}

class gateway_frontend final : public frontend {
 public:
  gateway_frontend(frontend_runner runner, gateway_frontend_options options)
      : runner_(std::move(runner)), options_(std::move(options)) {}

  result<gw::Result> solve(frontend_host& host, const frontend_request& request) override {
    if (request.options.contains("gateway-devel"))
      return refuse("development gateway is no longer supported");
    auto source = request.options.find("source");
    if (source == request.options.end()) return refuse("no source specified for gateway");
    auto name = parse_image_reference(source->second);
    if (!name.ok()) return std::move(name).error().with_context("invalid context name " + source->second);
    KILN_CHECK(check_allowed(source->second, *name));
    KILN_TRY(bool built_in, is_built_in(host, request, source->second, *name));
    if (built_in) return solve_built_in(host, request);
    KILN_TRY(auto image, load_frontend_image(host, request, source->second, *name));
    KILN_CHECK(check_caps(image, request));

    frontend_process process;
    KILN_TRY(process.ref, root_of(host, image));
    process.definition = image.definition;
    process.args = image.entrypoint;
    process.env = image.env;
    process.cwd = image.cwd;
    process.inputs = request.inputs;
    int n = 0;
    for (const auto& [key, value] : request.options)
      process.env.push_back("BUILDKIT_FRONTEND_OPT_" + std::to_string(n++) + "=" + key + "=" + value);
    process.env.push_back("BUILDKIT_SESSION_ID=" + host.session_id());
    process.env.push_back("BUILDKIT_WORKERS=" + workers_json(host));
    process.env.push_back(std::string("BUILDKIT_EXPORTEDPRODUCT=") + exported_product);
    auto label = image.labels.find("moby.buildkit.frontend.network.none");
    process.no_network = label != image.labels.end() && (label->second == "true" || label->second == "1");
    return runner_(host, process);
  }

 private:
  status check_allowed(const std::string& source, const image_reference& name) const {
    const auto& allowed = options_.allowed;
    if (allowed.empty() || std::find(allowed.begin(), allowed.end(), name.name()) != allowed.end()) return {};
    return make_error(errc::permission_denied, "'" + source + "' is not an allowed gateway source");
  }

  result<bool> is_built_in(frontend_host& host, const frontend_request& request, const std::string& source,
                           const image_reference& name) const {
    if (!options_.dockerfile_is_built_in || !stands_in_for(name)) return false;
    KILN_TRY(bool replaced, is_replaced(host, request, source));
    if (replaced) return false;
    return host.stand_in(name.str(), "dockerfile.v0");
  }

  static result<gw::Result> solve_built_in(frontend_host& host, const frontend_request& request) {
    gw::SolveRequest question;
    question.set_frontend("dockerfile.v0");
    question.set_allowresultreturn(true);
    question.set_allowresultarrayref(true);
    for (const auto& [key, value] : request.options)
      if (key != "source") (*question.mutable_frontendopt())[key] = value;
    // It is that image's frontend already: no syntax line sends it to another one.
    question.mutable_frontendopt()->insert({"cmdline", request.options.find("source")->second});
    for (const auto& [name, definition] : request.inputs)
      (*question.mutable_frontendinputs())[name] = definition;
    KILN_TRY(auto answer, host.solve(question));
    if (answer.has_result()) return std::move(*answer.mutable_result());
    gw::Result out;
    if (!answer.ref().empty()) out.mutable_ref()->set_id(answer.ref());
    return out;
  }

  static status check_caps(const frontend_image& image, const frontend_request& request) {
    auto wanted = request.options.find("frontend.caps");
    auto needs = capability_names(wanted == request.options.end() ? "" : wanted->second);
    if (!request.inputs.empty()) needs.emplace_back("moby.buildkit.frontend.inputs");
    for (const auto& cap : needs)
      if (!image.has_capability(cap)) return unsupported(cap);
    return {};
  }

  static result<std::string> root_of(frontend_host& host, const frontend_image& image) {
    gw::SolveRequest question;
    *question.mutable_definition() = image.definition;
    question.set_allowresultreturn(true);
    question.set_allowresultarrayref(true);
    KILN_TRY(auto answer, host.solve(question));
    if (!answer.result().has_ref() || answer.result().ref().id().empty())
      return make_error(errc::internal, "gateway source didn't return default result");
    return answer.result().ref().id();
  }

  frontend_runner runner_;
  gateway_frontend_options options_;
};

}  // namespace

result<std::vector<std::string>> allowed_repositories(const std::vector<std::string>& configured) {
  std::vector<std::string> out;
  for (const auto& text : configured) {
    auto name = parse_image_reference(text);
    if (!name.ok())
      return std::move(name).error().with_context("frontend.\"gateway.v0\".allowedRepositories: \"" + text +
                                                  "\"");
    out.push_back(name->name());
  }
  return out;
}

std::unique_ptr<frontend> make_gateway_frontend(frontend_runner runner, gateway_frontend_options options) {
  return std::make_unique<gateway_frontend>(std::move(runner), std::move(options));
}

}  // namespace kiln::frontends
