#include "actors/build_attestations.hpp"

#include "actors/progress.hpp"
#include "configs/version.hpp"
#include "messages/digest.hpp"
#include "messages/json_text.hpp"
#include "messages/time_text.hpp"

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
  constexpr int current_version = 30;
  compatibility_version_ = request.compatibilityversion() != 0 ? request.compatibilityversion() : current_version;
  std::map<std::string, std::string> options(request.frontendattrs().begin(), request.frontendattrs().end());
  log_.begin({request.frontend(), options, {request.frontendinputs().begin(), request.frontendinputs().end()}});
  KILN_TRY(auto wanted, frontends::parse_attestations(options));
  KILN_TRY(sbom_, frontends::sbom_wanted(wanted));
  if (auto found = wanted.find("provenance"); found != wanted.end()) {
    KILN_TRY(provenance_, exporters::parse_provenance_options(found->second));
    history_.builder_id = provenance_->builder_id;
  }
  return {};
}

void build_attestations::looked_at(int frame, const gw::ResolveSourceMetaRequest& asked,
                                   const gw::ResolveSourceMetaResponse& reply) {
  if (!reply.has_image() || reply.image().digest().empty()) return;
  exporters::captured_image image;
  image.ref = without_scheme(reply.source().identifier());
  image.local = !reply.source().identifier().starts_with("docker-image://");
  image.digest = reply.image().digest();
  if (asked.has_platform()) image.platform = from_proto(asked.platform());
  log_.add_image(frame, std::move(image));
}

void build_attestations::loaded(const std::string& ref, const pb::Definition&, const graph_spec& spec) {
  auto& entry = loaded_[ref];
  for (const auto& v : spec.vertices) {
    entry.vertices[v.op.vertex] = v.digest;
    if (v.op.op.has_source()) entry.sources.push_back(v.digest);
    else entry.ops.add_op(v.op.op);
  }
}

void build_attestations::handed_on(const gw::Result& result,
                                   const std::function<const pb::Definition*(const std::string&)>& definition) {
  auto publish = [&](const std::string& id) {
    if (const auto* d = definition(id)) log_.publish(id, *d, {});
  };
  if (result.has_ref()) publish(result.ref().id());
  if (result.has_refs())
    for (const auto& [key, ref] : result.refs().refs()) publish(ref.id());
}

std::optional<exporters::capture> build_attestations::captured(
    const std::string& ref, const sources_by_vertex& sources) const {
  auto found = loaded_.find(ref);
  if (found == loaded_.end()) return std::nullopt;
  auto out = found->second.ops;
  for (const auto& digest : found->second.sources)
    if (auto step = sources.find(digest); step != sources.end())
      out.add_source(step->second->source, step->second->platform, step->second->origin, step->second->pin);
  return out;
}

build_attestations::sources_by_vertex build_attestations::sources_of(const std::vector<cache_step>& steps) {
  sources_by_vertex out;
  for (const auto& s : steps)
    if (!s.pin.empty() || !s.origin.empty()) out[s.vertex] = &s;
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
  if (!settings_.environment.empty())
    out.environment = json_or_null<nlohmann::ordered_json>(settings_.environment);
  return out;
}

result<std::optional<exporters::provenance_predicate>> build_attestations::predicate_of(
    const exporters::provenance_options& options, const attested_part& part, const std::vector<attested_part>& parts,
    const sources_by_vertex& sources, const build_view& view) const {
  std::optional<exporters::provenance_predicate> out;
  const auto* d = part.ref.empty() ? nullptr : view.definition(part.ref);
  if (!d) return out;
  std::set<std::string> refs;
  std::vector<exporters::listed_platform> platforms;
  for (const auto& p : parts) {
    refs.insert(p.ref);
    platforms.push_back({p.id, p.platform});
  }
  auto provenance = log_.provenance(part.ref, part.id, platforms, refs,
                                    [&](const std::string& id) { return captured(id, sources); });
  KILN_TRY(out, exporters::make_predicate(options, provenance, *d, facts(view.builder)));
  return out;
}

result<std::vector<std::vector<attestation>>> build_attestations::make(
    const std::vector<attested_part>& parts, const std::vector<cache_step>& steps, const build_view& view) {
  std::vector<std::vector<attestation>> out(parts.size());
  if (!provenance_) return out;
  auto sources = sources_of(steps);
  std::map<std::pair<std::string, std::int32_t>, std::string> records;
  for (const auto& s : steps) {
    // A step that nobody needed the result of may be in the cache all the same.
    auto record = s.ref.empty() && provenance_->max ? view.record_of(s.keys) : s.ref;
    if (!record.empty()) records[{s.vertex, s.index}] = std::move(record);
  }
  for (std::size_t i = 0; i < parts.size(); ++i) {
    KILN_TRY(auto predicate, predicate_of(*provenance_, parts[i], parts, sources, view));
    if (!predicate) continue;
    attestation a;
    a.metadata = {{"reason", "provenance"}, {"inline-only", provenance_->inline_only ? "true" : "false"}};
    a.path = provenance_->filename;
    a.predicate_type = provenance_->predicate_type();
    a.content = std::move(predicate->text);
    const auto& vertices = loaded_[parts[i].ref].vertices;
    for (const auto& [digest, step] : predicate->steps) {
      auto vertex = vertices.find(digest);
      if (vertex == vertices.end()) continue;
      for (auto at = records.lower_bound({vertex->second, 0}); at != records.end() && at->first.first == vertex->second;
           ++at)
        a.layer_records[step + ":" + std::to_string(at->first.second)] = at->second;
    }
    out[i].push_back(std::move(a));
  }
  return out;
}

result<std::vector<std::string>> build_attestations::describe(const std::vector<attested_part>& parts,
                                                              const std::vector<cache_step>& steps,
                                                              const build_view& view) const {
  std::vector<std::string> out;
  auto sources = sources_of(steps);
  for (const auto& part : parts) {
    KILN_TRY(auto predicate, predicate_of(history_, part, parts, sources, view));
    out.push_back(predicate ? std::move(predicate->text) : "");
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
    a.subjects.push_back({s.kind() == gw::Raw ? subject_kind::raw : subject_kind::self, s.name(),
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
