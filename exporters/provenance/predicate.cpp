#include "exporters/provenance/predicate.hpp"

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "base/base64.hpp"
#include "base/digest.hpp"
#include "base/json_text.hpp"
#include "base/time_text.hpp"
#include "exporters/attributes.hpp"
#include "exporters/image_config.hpp"
#include "exporters/provenance/purl.hpp"
#include "solver/go_json.hpp"
#include "solver/graph.hpp"

namespace kiln::exporters {

namespace {

using json = nlohmann::ordered_json;

constexpr const char* build_type_1 =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
constexpr const char* build_type_02 = "https://mobyproject.org/buildkit@v1";

error invalid(std::string text) { return make_error(errc::invalid_argument, std::move(text)); }

json digest_set(const std::string& digest) {
  auto colon = digest.find(':');
  if (colon == std::string::npos) return json::object();
  return {{digest.substr(0, colon), digest.substr(colon + 1)}};
}

json material(const std::string& uri, json digests) {
  json out{{"uri", uri}};
  if (!digests.empty()) out["digest"] = std::move(digests);
  return out;
}

result<json> materials(const capture& c) {
  json out = json::array();
  for (const auto& i : c.images) {
    purl_qualifiers more;
    if (i.is_blob) more.emplace_back("ref_type", "blob");
    KILN_TRY(auto uri, image_purl(i.local ? "oci" : "docker", i.ref, i.platform, more));
    out.push_back(material(uri, digest_set(i.digest)));
  }
  for (const auto& g : c.git) {
    out.push_back(material(g.url, {{g.commit.size() == 64 ? "sha256" : "sha1", g.commit}}));
    auto scheme = g.bundle.find("://");
    auto at = g.bundle.rfind('@');
    if (scheme == std::string::npos || at == std::string::npos || at < scheme) continue;
    auto ref = g.bundle.substr(scheme + 3, at - scheme - 3);
    KILN_TRY(auto uri, image_purl(g.bundle.starts_with("oci-layout") ? "oci" : "docker", ref, {},
                                  {{"ref_type", "bundle"}, {"vcs_url", g.url}}));
    out.push_back(material(uri, digest_set(g.bundle.substr(at + 1))));
  }
  for (const auto& h : c.http) out.push_back(material(h.url, digest_set(h.digest)));
  return out;
}

struct build_steps {
  json list = json::array();
  json digests = json::object();  // digest → "step<n>"
  std::map<std::string, std::string> names;
};

/// The ops of a definition, inputs before their users, the end last.
result<build_steps> steps_of(const pb::Definition& definition,
                             const std::map<std::string, std::string>& usage) {
  build_steps out;
  if (definition.def_size() == 0) return out;
  struct one_op {
    std::string digest;
    pb::Op op;
    std::vector<int> inputs;
  };
  std::vector<one_op> ops;
  std::unordered_map<std::string, int> index;
  int last = 0;
  for (const auto& bytes : definition.def()) {
    one_op one{sha256(bytes).str(), {}, {}};
    if (!one.op.ParseFromString(bytes)) return invalid("failed to parse llb proto op");
    if (one.op.has_source())
      for (const char* key : {"local.session", "local.unique"})
        one.op.mutable_source()->mutable_attrs()->erase(key);
    auto [at, fresh] = index.try_emplace(one.digest, static_cast<int>(ops.size()));
    last = at->second;
    if (fresh) ops.push_back(std::move(one));
  }
  for (auto& one : ops)
    for (const auto& input : one.op.inputs()) {
      auto found = index.find(input.digest());
      if (found == index.end()) return invalid("failed to find input " + input.digest());
      one.inputs.push_back(found->second);
    }
  auto at = [&](int i) -> one_op& { return ops[static_cast<std::size_t>(i)]; };
  KILN_TRY(auto order,
           solver::dependency_order(
               last, static_cast<int>(ops.size()), [&](int i) { return std::span<const int>(at(i).inputs); },
               [&](int i) { return at(i).digest; }));
  for (std::size_t n = 0; n < order.size(); ++n) out.names[at(order[n]).digest] = "step" + std::to_string(n);
  for (int i : order) {
    auto& op = at(i).op;
    json inputs = json::array();
    for (const auto& input : op.inputs())
      inputs.push_back(out.names[input.digest()] + ":" + std::to_string(input.index()));
    op.clear_inputs();
    json step{{"id", out.names[at(i).digest]}, {"op", json_or_null<json>(solver::go_json(op))}};
    if (!inputs.empty()) step["inputs"] = std::move(inputs);
    if (auto used = usage.find(at(i).digest); used != usage.end())
      step["resourceUsage"] = json_or_null<json>(used->second);
    out.list.push_back(std::move(step));
  }
  out.digests = out.names;
  return out;
}

json build_config(const build_steps& steps) {
  json out = json::object();
  if (!steps.list.empty()) out["llbDefinition"] = steps.list;
  if (!steps.digests.empty()) out["digestMapping"] = steps.digests;
  return out;
}

result<json> source_of(const pb::Definition& definition, const build_steps& steps) {
  json infos = json::array();
  for (const auto& info : definition.source().infos()) {
    KILN_TRY(auto own, steps_of(info.definition(), {}));
    json entry = json::object();
    if (!info.filename().empty()) entry["filename"] = info.filename();
    if (!info.language().empty()) entry["language"] = info.language();
    if (!info.data().empty()) entry["data"] = base64_encode(info.data());
    entry.update(build_config(own));
    infos.push_back(std::move(entry));
  }
  std::map<std::string, json> locations;
  for (const auto& [digest, where] : definition.source().locations())
    if (auto step = steps.names.find(digest); step != steps.names.end())
      locations[step->second] = json_or_null<json>(solver::go_json(where));
  json out = json::object();
  if (!locations.empty()) out["locations"] = locations;
  out["infos"] = std::move(infos);
  return out;
}

/// Leaves out what may hold values of the user's; whether there was any.
bool scrub(json& request) {
  bool scrubbed = false;
  if (request.contains("args")) {
    json kept = json::object();
    for (auto& [key, value] : request["args"].items()) {
      if (key.starts_with("build-arg:") || key.starts_with("label:")) scrubbed = true;
      else kept[key] = value;
    }
    if (kept.empty()) request.erase("args");
    else request["args"] = std::move(kept);
  }
  request.erase("secrets");
  request.erase("ssh");
  if (request.contains("inputs"))
    for (auto& [name, input] : request["inputs"].items())
      if (input.contains("request")) scrubbed |= scrub(input["request"]);
  if (request.contains("root") && request["root"].contains("request"))
    scrubbed |= scrub(request["root"]["request"]);
  return scrubbed;
}

json secrets_json(const std::vector<captured_secret>& list) {
  json out = json::array();
  for (const auto& s : list) {
    json entry{{"id", s.id}};
    if (s.optional) entry["optional"] = true;
    out.push_back(std::move(entry));
  }
  return out;
}

/// Texts that are there.
json without_empty(const std::vector<std::pair<const char*, std::string>>& members) {
  json out = json::object();
  for (const auto& [key, value] : members)
    if (!value.empty()) out[key] = value;
  return out;
}

json gap_json(const captured_gap& g) {
  return without_empty(
      {{"op", g.op}, {"name", g.name}, {"method", g.method}, {"uri", g.uri}, {"reason", g.reason}});
}

json network_json(const capture& c) {
  json out{{"mode", "proxy"}};
  json gaps = json::array();
  for (const auto& g : c.gaps) gaps.push_back(gap_json(g));
  if (!gaps.empty()) out["proxy"] = {{"incomplete", std::move(gaps)}};
  return out;
}

error incomplete(const capture& c) {
  std::string text =
      "provenance materials are incomplete\n\nThe build requested complete provenance materials, but not all "
      "dependencies could be captured.";
  if (!c.locals.empty()) {
    text += "\n\nUncaptured local sources:";
    for (const auto& l : c.locals)
      text += "\n  - " + (l.empty() ? "<unnamed>" : l) + "\n    reason: local_source";
  }
  if (!c.gaps.empty()) text += "\n\nUncaptured requests:";
  for (const auto& g : c.gaps) {
    text += "\n  - " + (!g.name.empty() ? g.name : !g.op.empty() ? g.op : g.uri);
    for (auto [key, value] : {std::pair{"method", &g.method}, {"url", &g.uri}, {"reason", &g.reason}})
      if (!value->empty()) text += std::string("\n    ") + key + ": " + *value;
  }
  auto out = make_error(errc::failed_precondition, text);
  json details = json::array();
  for (const auto& l : c.locals) details.push_back(without_empty({{"name", l}, {"reason", "local_source"}}));
  for (const auto& g : c.gaps) details.push_back(gap_json(g));
  out.details.push_back({"github.com/moby/buildkit/errdefs.ProvenanceMaterialsIncomplete+json",
                         json_text(json{{"incomplete", std::move(details)}})});
  return out;
}

result<bool> flag(const std::map<std::string, std::string>& attributes, const char* key) {
  auto found = attributes.find(key);
  if (found == attributes.end()) return false;
  auto value = parse_bool(key, found->second);
  if (!value.ok()) return invalid("failed to parse " + std::string(key) + " flag \"" + found->second + "\"");
  return *value;
}

/// Version 1 told in the words of version 0.2.
json to_version_02(const json& v1) {
  const auto& build = v1["buildDefinition"];
  const auto& external = build["externalParameters"];
  const auto& internal = build["internalParameters"];
  const auto& details = v1["runDetails"]["metadata"];
  json source = json::object();
  for (auto [from, to] : {std::pair{"uri", "uri"}, {"digest", "digest"}, {"path", "entryPoint"}})
    if (external["configSource"].contains(from)) source[to] = external["configSource"][from];
  json environment = json::object();
  environment["platform"] = internal["builderPlatform"];
  for (const auto& [key, value] : internal.items())
    if (key != "buildConfig" && key != "builderPlatform") environment[key] = value;
  json metadata{{"buildInvocationID", details["invocationId"]},
                {"buildStartedOn", details["startedOn"]},
                {"buildFinishedOn", details["finishedOn"]},
                {"completeness",
                 {{"parameters", details["buildkit_completeness"]["request"]},
                  {"environment", true},
                  {"materials", details["buildkit_completeness"]["resolvedDependencies"]}}},
                {"reproducible", details.contains("buildkit_reproducible")},
                {"https://mobyproject.org/buildkit@v1#metadata", details["buildkit_metadata"]}};
  if (details.contains("buildkit_hermetic")) metadata["https://mobyproject.org/buildkit@v1#hermetic"] = true;
  json out{{"builder", v1["runDetails"]["builder"]}, {"buildType", build_type_02}};
  if (build.contains("resolvedDependencies")) out["materials"] = build["resolvedDependencies"];
  out["invocation"] = {
      {"configSource", source}, {"parameters", external["request"]}, {"environment", std::move(environment)}};
  if (internal.contains("buildConfig")) out["buildConfig"] = internal["buildConfig"];
  out["metadata"] = std::move(metadata);
  return out;
}

}  // namespace

result<provenance_options> parse_provenance_options(const std::map<std::string, std::string>& attributes) {
  provenance_options out;
  for (const auto& [key, value] : attributes) {
    if (key == "version") {
      if (value.empty()) return invalid("provenance SLSA version cannot be empty");
      if (value != "v0.2" && value != "v1") return invalid("invalid provenance SLSA version: " + value);
      out.version_02 = value == "v0.2";
    } else if (key == "mode") {
      if (value != "min" && value != "max" && value != "full")
        return invalid("invalid mode \"" + value + "\"");
      out.max = value != "min";
    } else if (key == "builder-id") {
      out.builder_id = value;
    } else if (key == "filename") {
      out.filename = value;
    }
  }
  KILN_TRY(out.reproducible, flag(attributes, "reproducible"));
  KILN_TRY(out.complete_materials, flag(attributes, "complete-materials"));
  // As upstream has it, whatever is no truth value means no.
  if (auto usage = attributes.find("capture-usage"); usage != attributes.end())
    if (auto value = parse_bool("capture-usage", usage->second); value.ok()) out.capture_usage = *value;
  auto only = attributes.find("inline-only");
  if (only != attributes.end())
    if (auto value = parse_bool("inline-only", only->second); value.ok()) out.inline_only = *value;
  return out;
}

result<provenance_predicate> make_predicate(const provenance_options& options,
                                            const request_log::provenance_of_ref& provenance,
                                            const pb::Definition& definition, const build_facts& facts) {
  capture c = provenance.what;
  KILN_CHECK(c.finish());
  json request = provenance.request;
  bool has_frontend = request.contains("frontend");
  bool is_complete = !c.incomplete_materials && c.locals.empty();
  if (options.complete_materials && !is_complete) return incomplete(c);

  std::map<std::string, std::string> args;
  if (const auto* own = member_of(request, "args")) args = text_members(*own);
  auto asked = request_provenance(text_member(request, "frontend"), args, c);
  request.erase("args");
  json vcs = json::object();
  if (asked["request"].contains("args")) {
    json kept = json::object();
    for (auto& [key, value] : asked["request"]["args"].items()) {
      if (!key.starts_with("vcs:")) kept[key] = value;
      else if (auto text = text_value(value); !text.empty())
        vcs[key.substr(4)] = key == "vcs:source" ? redact_credentials(text) : text;
    }
    if (!kept.empty()) request["args"] = std::move(kept);
  }
  if (!c.secrets.empty()) request["secrets"] = secrets_json(c.secrets);
  if (!c.ssh.empty()) request["ssh"] = secrets_json(c.ssh);
  for (const auto& name : c.locals) request["locals"].push_back({{"name", name}});
  bool request_complete = has_frontend;
  if (!options.max && scrub(request)) request_complete = false;
  if (facts.compatibility_version != 0) request["compatibilityVersion"] = facts.compatibility_version;

  provenance_predicate out;
  KILN_TRY(auto dependencies, materials(c));
  json internal = json::object();
  json buildkit = json::object();
  if (!vcs.empty()) buildkit["vcs"] = std::move(vcs);
  if (c.proxy_network) buildkit["network"] = network_json(c);
  static const std::map<std::string, std::string> no_usage;
  if (options.max) {
    KILN_TRY(auto steps, steps_of(definition, options.capture_usage ? facts.usage : no_usage));
    internal["buildConfig"] = build_config(steps);
    if (definition.source().infos_size() > 0) {
      KILN_TRY(buildkit["source"], source_of(definition, steps));
    }
    out.steps = std::move(steps.names);
  }
  if (options.capture_usage && !facts.machine_usage.empty()) buildkit["sysUsage"] = facts.machine_usage;
  internal["builderPlatform"] = facts.builder_platform;
  if (text_member(request, "frontend") == "dockerfile.v0" && !facts.dockerfile_version.empty())
    internal["dockerfileVersion"] = facts.dockerfile_version;
  for (const auto& [key, value] : facts.environment.items()) internal[key] = value;

  json metadata{{"invocationId", facts.invocation_id},
                {"startedOn", format_rfc3339(facts.started_ns)},
                {"finishedOn", format_rfc3339(facts.finished_ns)},
                {"buildkit_metadata", std::move(buildkit)}};
  if (is_complete && !c.network_access) metadata["buildkit_hermetic"] = true;
  metadata["buildkit_completeness"] = {{"request", request_complete}, {"resolvedDependencies", is_complete}};
  if (options.reproducible) metadata["buildkit_reproducible"] = true;

  json build{{"buildType", build_type_1}};
  if (!dependencies.empty()) build["resolvedDependencies"] = std::move(dependencies);
  build["externalParameters"] = {{"configSource", asked["configSource"]}, {"request", std::move(request)}};
  build["internalParameters"] = std::move(internal);
  json predicate{
      {"buildDefinition", std::move(build)},
      {"runDetails", {{"builder", {{"id", options.builder_id}}}, {"metadata", std::move(metadata)}}}};
  if (options.version_02) predicate = to_version_02(predicate);
  out.text = go_json(predicate, 2);
  return out;
}

std::string with_layers(const std::string& text, const json& layers) {
  auto predicate = json_or_null<json>(text);
  if (layers.empty() || !predicate.is_object()) return text;
  if (predicate.contains("runDetails"))
    predicate["runDetails"]["metadata"]["buildkit_metadata"]["layers"] = layers;
  else predicate["metadata"]["https://mobyproject.org/buildkit@v1#metadata"]["layers"] = layers;
  return go_json(predicate, 2);
}

}  // namespace kiln::exporters
