// dockerfile.v0: reads options and the Dockerfile, forwards to the frontend a `# syntax` line names, answers
// questions, or converts and solves each platform. Platforms are built in parallel.
#include <algorithm>

#include "base/json_text.hpp"
#include "base/parallel.hpp"
#include "configs/frontends.hpp"
#include "configs/registry.hpp"
#include "frontends/dockerfile/convert.hpp"
#include "frontends/dockerfile/directives.hpp"
#include "frontends/dockerfile/source_details.hpp"
#include "frontends/dockerfile/subrequests.hpp"
#include "frontends/dockerfile/text.hpp"
#include "frontends/frontend.hpp"
#include "frontends/sbom.hpp"
#include "messages/told_code.hpp"

namespace kiln::dockerfile {

namespace gw = moby::buildkit::v1::frontend;
using frontends::frontend_host;
using frontends::frontend_request;

namespace {

const std::set<std::string> supported_caps{
    "moby.buildkit.frontend.inputs", "moby.buildkit.frontend.subrequests", "moby.buildkit.frontend.contexts",
    "moby.buildkit.frontend.gitquerystring"};

struct caps_outcome {
  bool may_forward = false;
  std::optional<error> problem;
};

// A client's demands: "cap[+param…],…". An unknown one fails, unless another frontend may take over.
caps_outcome check_caps(const std::string& text) {
  caps_outcome out;
  if (text.empty()) return out;
  for (const auto& cap : split(text, ',')) {
    auto name = cut(cap, "+").before;
    if (supported_caps.contains(name)) continue;
    auto e = make_error(errc::unimplemented, "unsupported frontend capability " + name);
    e.details.push_back({"github.com/moby/buildkit/errdefs.FrontendCap+json",
                         go_json(nlohmann::ordered_json{{"name", name}})});
    out.problem = told_as(errc::unimplemented, std::move(e));
    if (cap.find("+forward") == std::string::npos) {
      out.may_forward = false;
      return out;
    }
    out.may_forward = true;
  }
  return out;
}

nlohmann::ordered_json platform_json(const kiln::platform& p) {
  nlohmann::ordered_json out;
  out["architecture"] = p.architecture;
  out["os"] = p.os;
  if (!p.os_version.empty()) out["os.version"] = p.os_version;
  if (!p.os_features.empty()) out["os.features"] = p.os_features;
  if (!p.variant.empty()) out["variant"] = p.variant;
  return out;
}

struct built_platform {
  std::string id;
  kiln::platform platform;
  std::string ref;
  std::optional<conversion> converted;
};

class build {
 public:
  build(frontend_host& host, const frontend_request& request, const build_options& options)
      : host_(host), request_(request), options_(options), sources_(host, options, request.inputs, graph_) {}

  result<gw::Result> run() {
    auto caps = check_caps(options_.get("frontend.caps").value_or(""));
    if (caps.problem && !caps.may_forward) return *caps.problem;
    KILN_TRY(file_, sources_.read_dockerfile());
    KILN_TRY(auto forwarded, maybe_forward());
    if (forwarded) return *std::move(forwarded);
    if (caps.problem) return *caps.problem;
    if (auto id = options_.get("requestid")) {
      auto answer = answer_subrequest(*id, convert_request_for(std::nullopt, true));
      if (!answer) return with_source_details(std::move(answer).error(), *file_);
      return answer;
    }
    auto built = build_all();
    if (!built) return with_source_details(std::move(built).error(), *file_);
    return built;
  }

 private:
  convert_request convert_request_for(std::optional<kiln::platform> platform, bool with_warnings) {
    convert_request out;
    out.sources = &sources_;
    out.file = file_;
    out.target_platform = std::move(platform);
    if (with_warnings)
      out.warn = [this](const lint_rule& rule, const std::string& message, const line_ranges& where) {
        warn(rule, message, where);
      };
    return out;
  }

  void warn(const lint_rule& rule, const std::string& message, const line_ranges& where) {
    auto text = std::string(rule.name) + ": " + message;
    if (!where.empty() && where.front().start > 0)
      text += " (line " + std::to_string(where.front().start) + ")";
    gw::WarnRequest request;
    request.set_digest(file_->head_digest);
    request.set_level(1);
    request.set_short_(text);
    request.add_detail(std::string(rule.description));
    request.set_url(std::string(rule.url));
    *request.mutable_info() = file_->info();
    for (const auto& range : to_proto(where)) *request.add_ranges() = range;
    // A warning that cannot be delivered does not fail a build.
    if (auto sent = host_.warn(request); !sent) return;
  }

  result<gw::Result> forward(const std::string& image, const std::string& command_line) {
    gw::SolveRequest request;
    request.set_frontend("gateway.v0");
    request.set_allowresultreturn(true);
    request.set_allowresultarrayref(true);
    for (const auto& [key, value] : request_.options) (*request.mutable_frontendopt())[key] = value;
    (*request.mutable_frontendopt())["cmdline"] = command_line;
    (*request.mutable_frontendopt())["source"] = image;
    for (const auto& [name, definition] : request_.inputs)
      (*request.mutable_frontendinputs())[name] = definition;
    KILN_TRY(auto response, host_.solve(request));
    if (response.has_result()) return std::move(*response.mutable_result());
    gw::Result out;
    if (!response.ref().empty()) out.mutable_ref()->set_id(response.ref());
    return out;
  }

  static bool has_source(const error& e) {
    return std::any_of(e.details.begin(), e.details.end(), [](const auto& d) {
      return d.type_url == "github.com/moby/buildkit/errdefs.Source+json";
    });
  }

  // The result of another frontend, if the build asks for one.
  result<std::optional<gw::Result>> maybe_forward() {
    std::optional<gw::Result> none;
    if (options_.get("cmdline")) return none;
    constexpr const char* key = "build-arg:BUILDKIT_SYNTAX";
    if (auto wanted = options_.get(key)) {
      std::string command_line(trim_space(*wanted));
      auto image = cut(command_line, " ").before;
      auto out = forward(image, *wanted);
      if (out) return std::optional(*std::move(out));
      if (has_source(out.error())) return std::move(out).error();
      return std::move(out).error().with_context("failed with " + std::string(key) + " = " + *wanted);
    }
    auto syntax = detect_syntax(file_->data);
    if (!syntax) return none;
    auto out = forward(syntax->first_word, syntax->value);
    if (out) return std::optional(*std::move(out));
    if (has_source(out.error())) return std::move(out).error();
    return with_source_details(with_location(std::move(out).error(), syntax->location), *file_);
  }

  result<built_platform> build_one(const std::optional<kiln::platform>& platform, bool first) {
    built_platform out;
    out.platform = normalize(platform.value_or(host_platform()));
    out.id = format_platform(out.platform);
    KILN_TRY(auto converted, convert(convert_request_for(platform, first)));
    auto definition = converted.marshal();
    if (!definition) return std::move(definition).error().with_context("failed to marshal LLB definition");
    gw::SolveRequest request;
    *request.mutable_definition() = *std::move(definition);
    request.set_allowresultreturn(true);
    request.set_allowresultarrayref(true);
    for (const auto& entry : options_.cache_imports) *request.add_cacheimports() = entry;
    KILN_TRY(auto response, host_.solve(request));
    const auto& r = response.result();
    out.ref = r.has_ref() ? r.ref().id() : !r.refdeprecated().empty() ? r.refdeprecated() : response.ref();
    if (out.platform.os == "windows" && converted.image.platform.os == "windows") {
      const auto& image = converted.image.platform;
      if (out.platform.os_version.empty()) out.platform.os_version = image.os_version;
      if (out.platform.os_features.empty()) out.platform.os_features = image.os_features;
    }
    out.converted = std::move(converted);
    return out;
  }

  result<gw::Result> build_all() {
    std::optional<frontends::sbom_scanner> scanner;
    if (options_.sbom) {
      auto platform = sources_.default_platform();
      KILN_TRY(auto image, sources_.resolve_image(options_.sbom->generator, platform, ""));
      KILN_TRY(scanner, frontends::make_scanner(*options_.sbom, image.reference, image.config, platform));
    }
    std::vector<std::optional<kiln::platform>> wanted(options_.platforms.begin(), options_.platforms.end());
    if (wanted.empty()) wanted.emplace_back();
    std::vector<std::optional<result<built_platform>>> built(wanted.size());
    parallel_for("frontend", wanted.size(), configs::frontend_parallel_platforms,
                 [&](std::size_t i) { built[i].emplace(build_one(wanted[i], i == 0)); });

    gw::Result out;
    auto platforms = nlohmann::ordered_json::array();
    for (auto& one : built) {
      KILN_TRY(auto platform, *std::move(one));
      KILN_CHECK(add(platform, out, scanner));
      nlohmann::ordered_json entry;
      entry["ID"] = platform.id;
      entry["Platform"] = platform_json(platform.platform);
      platforms.push_back(std::move(entry));
    }
    nlohmann::ordered_json list;
    list["Platforms"] = std::move(platforms);
    (*out.mutable_metadata())["refs.platforms"] = go_json(list);
    return out;
  }

  status add(const built_platform& p, gw::Result& out,
             const std::optional<frontends::sbom_scanner>& scanner) {
    auto suffix = options_.multi_platform ? "/" + p.id : std::string();
    if (options_.multi_platform) (*out.mutable_refs()->mutable_refs())[p.id].set_id(p.ref);
    else out.mutable_ref()->set_id(p.ref);
    auto& metadata = *out.mutable_metadata();
    auto config = to_json(p.converted->image);
    if (config.size() > configs::max_image_config_size)
      return make_error(errc::invalid_argument,
                        "the image's config would have " + std::to_string(config.size()) +
                            " bytes, and nobody reads more than " +
                            std::to_string(configs::max_image_config_size) + " of one");
    metadata["containerimage.config" + suffix] = std::move(config);
    if (p.converted->base_image)
      metadata["containerimage.base.config" + suffix] = to_json(*p.converted->base_image);
    if (p.converted->epoch) metadata["source.date.epoch" + suffix] = std::to_string(*p.converted->epoch);
    if (!scanner) return {};
    frontends::scan_target target{p.id, p.converted->state.out, {}, p.converted->ignore_cache};
    for (const auto& [name, state] : p.converted->scan_extras) target.extras[name] = state.out;
    KILN_TRY(auto found, frontends::scan(graph_, *scanner, target));
    KILN_TRY(auto definition, sources_.marshal(found));
    KILN_TRY(auto ref, sources_.solve(definition));
    *(*out.mutable_attestations())[p.id].add_attestation() = frontends::scan_attestation(ref);
    return {};
  }

  frontend_host& host_;
  const frontend_request& request_;
  const build_options& options_;
  llb::graph graph_;
  build_sources sources_;
  std::shared_ptr<const llb::source_map> file_;
};

class dockerfile_frontend final : public frontends::frontend {
 public:
  result<gw::Result> solve(frontend_host& host, const frontend_request& request) override {
    KILN_TRY(auto options, parse_build_options(request.options));
    return build(host, request, options).run();
  }
};

}  // namespace

}  // namespace kiln::dockerfile

namespace kiln::frontends {

std::unique_ptr<frontend> make_dockerfile_frontend() {
  return std::make_unique<dockerfile::dockerfile_frontend>();
}

}  // namespace kiln::frontends
