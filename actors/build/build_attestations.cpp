#include "actors/build/build_attestations.hpp"

#include "actors/build/build_request.hpp"
#include "actors/progress.hpp"
#include "base/digest.hpp"
#include "base/json_text.hpp"
#include "base/text.hpp"
#include "base/time_text.hpp"
#include "configs/version.hpp"

namespace kiln::actors {

namespace {

std::string without_scheme(const std::string& identifier) {
  auto at = identifier.find("://");
  return at == std::string::npos ? identifier : identifier.substr(at + 3);
}

}  // namespace

status build_attestations::begin(const ctl::SolveRequest& request, std::int64_t created_ns) {
  created_ns_ = created_ns;
  invocation_ = new_id();
  compatibility_version_ = compatibility_of(request);
  std::map<std::string, std::string> options(request.frontendattrs().begin(), request.frontendattrs().end());
  log_.begin(
      {request.frontend(), options, {request.frontendinputs().begin(), request.frontendinputs().end()}});
  KILN_TRY(auto wanted, frontends::parse_attestations(options));
  KILN_TRY(sbom_, frontends::sbom_wanted(wanted));
  if (auto found = wanted.find("provenance"); found != wanted.end()) {
    KILN_TRY(provenance_, exporters::parse_provenance_options(found->second));
    history_.builder_id = provenance_->builder_id;
  }
  return {};
}

void build_attestations::looked_at(int scope, const gw::ResolveSourceMetaRequest& asked,
                                   const gw::ResolveSourceMetaResponse& reply) {
  if (!reply.has_image() || reply.image().digest().empty()) return;
  exporters::captured_image image;
  image.ref = without_scheme(reply.source().identifier());
  image.local = !reply.source().identifier().starts_with("docker-image://");
  image.digest = reply.image().digest();
  if (asked.has_platform()) image.platform = from_proto(asked.platform());
  log_.add_image(scope, std::move(image));
}

std::shared_ptr<const build_attestations::loaded_ref> build_attestations::read(const graph_spec& spec) {
  auto out = std::make_shared<loaded_ref>();
  for (const auto& v : spec.vertices) {
    out->vertices[v.op.vertex] = v.digest;
    if (v.op.op.has_source()) out->sources.push_back(v.digest);
    else out->ops.add_op(v.op.op);
    if (v.op.proxy.on && v.op.op.has_exec())
      out->proxied.push_back({v.digest, v.op.vertex, join(v.op.op.exec().meta().args(), " ")});
  }
  return out;
}

void build_attestations::handed_on(const gw::Result& result, const definition_lookup& definition) {
  auto publish = [&](const std::string& id) {
    if (auto d = definition(id)) log_.publish(id, *d, {});
  };
  if (result.has_ref()) publish(result.ref().id());
  if (result.has_refs())
    for (const auto& [key, ref] : result.refs().refs()) publish(ref.id());
}

std::optional<exporters::capture> build_attestations::captured(const std::string& ref,
                                                               const steps_by_vertex& steps) const {
  auto found = loaded_.find(ref);
  if (found == loaded_.end()) return std::nullopt;
  auto out = found->second->ops;
  for (const auto& digest : found->second->sources)
    if (auto step = steps.find(digest); step != steps.end())
      out.add_source(step->second->source, step->second->platform, step->second->origin, step->second->pin);
  for (const auto& p : found->second->proxied) {
    auto step = steps.find(p.vertex);
    out.add_proxied(p.op, p.name, step == steps.end() ? std::string_view() : step->second->proxied);
  }
  return out;
}

build_attestations::steps_by_vertex build_attestations::telling(const std::vector<cache_step>& steps) {
  steps_by_vertex out;
  for (const auto& s : steps) {
    if (s.pin.empty() && s.origin.empty() && s.proxy_op.empty()) continue;
    auto& kept = out[s.vertex];
    // Of the outputs of one step any may be the one whose record remembers.
    if (kept == nullptr || kept->proxied.empty()) kept = &s;
  }
  return out;
}

exporters::build_facts build_attestations::facts(const platform& builder) const {
  exporters::build_facts out;
  out.invocation_id = invocation_;
  out.started_ns = created_ns_;
  out.finished_ns = unix_now_ns();
  out.builder_platform = format_platform(normalize(builder));
  out.dockerfile_version = configs::dockerfile_version;
  out.compatibility_version = compatibility_version_;
  out.machine_usage = machine_usage_.all();
  if (!settings_.environment.empty())
    out.environment = json_or_null<nlohmann::ordered_json>(settings_.environment);
  return out;
}

build_attestations::known_result build_attestations::look(const std::vector<attested_part>& parts,
                                                          const std::vector<cache_step>& steps,
                                                          const definition_lookup& definition,
                                                          const platform& builder) const {
  known_result out;
  out.facts = facts(builder);
  out.wanted = provenance_;
  out.history = history_;
  auto told = telling(steps);
  std::map<std::string, std::string> usage;  // by vertex
  for (const auto& s : steps)
    if (!s.usage.empty()) usage[s.vertex] = s.usage;
  std::set<std::string> refs;
  std::vector<exporters::listed_platform> platforms;
  for (const auto& p : parts) {
    refs.insert(p.ref);
    platforms.push_back({p.id, p.platform});
  }
  for (const auto& p : parts) {
    auto& part = out.parts.emplace_back();
    if (!p.ref.empty()) part.definition = definition(p.ref);
    if (!part.definition) continue;
    part.provenance = log_.provenance(p.ref, p.id, platforms, refs,
                                      [&](const std::string& id) { return captured(id, told); });
    auto found = loaded_.find(p.ref);
    if (found == loaded_.end()) continue;
    part.loaded = found->second;
    for (const auto& [digest, vertex] : part.loaded->vertices)
      if (auto used = usage.find(vertex); used != usage.end()) part.usage[digest] = used->second;
  }
  return out;
}

exporters::build_facts build_attestations::facts_of(const known_result& known, const known_part& part) {
  auto out = known.facts;
  out.usage = part.usage;
  out.machine_usage.push_back(kiln::machine_usage(unix_now_ns()));
  return out;
}

result<std::vector<std::vector<attestation>>> build_attestations::make(const known_result& known,
                                                                       const std::vector<cache_step>& steps,
                                                                       const record_lookup& record_of) {
  std::vector<std::vector<attestation>> out(known.parts.size());
  if (!known.wanted) return out;
  const auto& options = *known.wanted;
  std::map<std::pair<std::string, std::int32_t>, std::string> records;
  for (const auto& s : steps) {
    // A step that nobody needed the result of may be in the cache all the same.
    auto record = s.ref.empty() && options.max ? record_of(s.keys) : s.ref;
    if (!record.empty()) records[{s.vertex, s.index}] = std::move(record);
  }
  for (std::size_t i = 0; i < known.parts.size(); ++i) {
    const auto& part = known.parts[i];
    if (!part.definition) continue;
    KILN_TRY(auto predicate,
             exporters::make_predicate(options, part.provenance, *part.definition, facts_of(known, part)));
    attestation a;
    a.metadata = {{"reason", "provenance"}, {"inline-only", options.inline_only ? "true" : "false"}};
    a.path = options.filename;
    a.predicate_type = options.predicate_type();
    a.content = std::move(predicate.text);
    for (const auto& [digest, step] : predicate.steps) {
      if (!part.loaded) break;
      auto vertex = part.loaded->vertices.find(digest);
      if (vertex == part.loaded->vertices.end()) continue;
      for (auto at = records.lower_bound({vertex->second, 0});
           at != records.end() && at->first.first == vertex->second; ++at)
        a.layer_records[step + ":" + std::to_string(at->first.second)] = at->second;
    }
    out[i].push_back(std::move(a));
  }
  return out;
}

result<std::vector<std::string>> build_attestations::describe(const known_result& known) {
  std::vector<std::string> out;
  for (const auto& part : known.parts) {
    auto& text = out.emplace_back();
    if (!part.definition) continue;
    KILN_TRY(auto predicate, exporters::make_predicate(known.history, part.provenance, *part.definition,
                                                       facts_of(known, part)));
    text = std::move(predicate.text);
  }
  return out;
}

attestation attestation_of(const gw::Attestation& from) {
  attestation a;
  a.kind = from.kind() == gw::Bundle ? attestation_kind::bundle : attestation_kind::in_toto;
  a.metadata = {from.metadata().begin(), from.metadata().end()};
  a.path = from.path();
  a.predicate_type = from.intotopredicatetype();
  for (const auto& s : from.intotosubjects())
    a.subjects.push_back({s.kind() == gw::Raw ? subject_kind::raw : subject_kind::self,
                          s.name(),
                          {s.digest().begin(), s.digest().end()}});
  return a;
}

frontend_attestations attestations_of(const gw::Result& result) {
  frontend_attestations out;
  for (const auto& [key, list] : result.attestations())
    for (const auto& a : list.attestation()) out[key].emplace_back(attestation_of(a), a.ref().id());
  return out;
}

bool has_sbom(const frontend_attestations& all) {
  for (const auto& [key, list] : all)
    for (const auto& [a, ref] : list)
      if (a.predicate_type == spdx_predicate) return true;
  return false;
}

}  // namespace kiln::actors
