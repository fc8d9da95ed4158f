// What becomes of a build's result: attestations, exporters, cache exports.
#include <algorithm>
#include <numeric>

#include "actors/build_state.hpp"
#include "actors/session_exporters.hpp"
#include "actors/verify_platforms.hpp"
#include "exporters/client_store.hpp"
#include "solver/error_details.hpp"
#include "store/cache_keys.hpp"

namespace kiln::actors {

export_spec build_state::spec_of(int index) const {
  const auto& e = o_.request.exporters(index);
  return {e.type(), {e.attrs().begin(), e.attrs().end()}, index};
}

cache_entry build_state::entry_of(const ctl::CacheOptionsEntry& e) {
  return {e.type(), {e.attrs().begin(), e.attrs().end()}};
}

void build_state::check_cache_exports(int index) {
  if (phase_ != build_phase::checking) return;
  if (index == o_.request.cache().exports_size()) return begin();
  auto worker = o_.peers.worker();
  if (!worker) return end(from_caf(peer_down(peers::worker_name)));
  self_->request(worker, caf::infinite, check_atom::value, entry_of(o_.request.cache().exports(index)))
      .then(
          [this, index](cache_export_kind& kind) {
            cache_exports_.push_back(std::move(kind));
            check_cache_exports(index + 1);
          },
          [this](caf::error& e) { end(from_caf(e)); });
}

void build_state::solved(gw::Result r) {
  if (phase_ != build_phase::solving) return;
  set_phase(build_phase::evaluating);
  final_.multi = r.has_refs() || r.has_refsdeprecated();
  if (r.has_refs()) {
    for (const auto& [key, ref] : r.refs().refs()) final_.refs.emplace_back(key, ref.id());
  } else if (r.has_refsdeprecated()) {
    for (const auto& [key, id] : r.refsdeprecated().refs()) final_.refs.emplace_back(key, id);
  } else {
    final_.refs.emplace_back("", r.has_ref() ? r.ref().id() : r.refdeprecated());
  }
  final_.metadata = {r.metadata().begin(), r.metadata().end()};
  final_.platforms = result_platforms(final_.metadata);
  // In the order the frontend lists its platforms; what it does not list comes last, by name.
  auto rank = [this](const std::string& id) {
    return std::find_if(final_.platforms.begin(), final_.platforms.end(), [&](const auto& p) { return p.first == id; }) -
           final_.platforms.begin();
  };
  std::sort(final_.refs.begin(), final_.refs.end(), [&](const auto& a, const auto& b) {
    return std::pair(rank(a.first), a.first) < std::pair(rank(b.first), b.first);
  });
  final_.attestations = attestations_of(r);
  std::vector<std::string> ids;
  for (const auto& [key, id] : final_.refs) ids.push_back(id);
  evaluate_refs(std::move(ids), [this](result<std::vector<vertex_result>> all) {
    if (!all.ok()) return end(std::move(all).error());
    scan([this, values = *std::move(all)] { evaluate_attestations(values); });
  });
}

void build_state::evaluate_attestations(std::vector<vertex_result> values) {
  std::vector<std::string> ids;
  for (const auto& [key, list] : final_.attestations)
    for (const auto& [a, id] : list) ids.push_back(id);
  evaluate_refs(std::move(ids), [this, values = std::move(values)](result<std::vector<vertex_result>> all) mutable {
    if (!all.ok()) return end(std::move(all).error());
    auto next = all->begin();
    for (auto& [key, list] : final_.attestations)
      for (auto& [a, id] : list) a.ref = (next++)->ref;
    if (cache_exports_.empty() && !attestations_.wants_provenance() && !recorded_) return attest(std::move(values));
    gather_trail(std::move(values));
  });
}

std::vector<attested_part> build_state::attested_parts() const {
  std::vector<attested_part> out;
  for (const auto& [id, ref] : final_.refs) {
    attested_part part{id, ref, platform_of_part(id)};
    if (id.empty() && final_.platforms.size() == 1) part.id = final_.platforms.front().first;
    if (part.id.empty()) part.id = format_platform(normalize(part.platform));
    out.push_back(std::move(part));
  }
  return out;
}

build_attestations::known_result build_state::known_result() const {
  return attestations_.look(attested_parts(), trail_.steps, definitions(),
                            platforms_.empty() ? host_platform() : platforms_.front());
}

void build_state::attest(std::vector<vertex_result> values) {
  if (!attestations_.wants_provenance())
    return attested(std::move(values), std::vector<std::vector<attestation>>(final_.refs.size()));
  auto record_of = [store = o_.store](const std::vector<std::string>& keys) -> std::string {
    for (const auto& key : keys)
      if (store)
        for (const auto& found : store->keys().results(key)) return found.id;
    return {};
  };
  using lists = std::vector<std::vector<attestation>>;
  jobs_.run<lists>(
      self_, *o_.io,
      [known = known_result(), steps = trail_.steps, record_of] {
        return build_attestations::make(known, steps, record_of);
      },
      [this, values = std::move(values)](result<lists> own) mutable {
        if (!own.ok()) return end(std::move(own).error());
        attested(std::move(values), *std::move(own));
      });
}

void build_state::attested(std::vector<vertex_result> values, std::vector<std::vector<attestation>> own) {
  if (phase_ != build_phase::evaluating) return;
  auto parts = attested_parts();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    auto& ready = final_.ready.emplace_back();
    if (auto given = final_.attestations.find(parts[i].id); given != final_.attestations.end())
      for (const auto& [a, id] : given->second) ready.push_back(a);
    for (auto& a : own[i]) ready.push_back(std::move(a));
  }
  if (!o_.request.enablesessionexporter()) return run_exports(std::move(values));
  ask_for_exporters(std::move(values));
}

void build_state::ask_for_exporters(std::vector<vertex_result> values) {
  using specs = std::vector<export_spec>;
  std::vector<std::string> refs;  // by which the client may look at them
  for (const auto& [platform, ref] : final_.refs)
    if (!ref.empty()) refs.push_back(ref);
  jobs_.run<specs>(
      self_, *o_.calls,
      [directory = o_.sessions, session = o_.request.session(), metadata = final_.metadata, refs,
       first = o_.request.exporters_size(), stop = channel_->stop_token()] {
        return find_session_exporters(directory, session, metadata, refs, first, stop);
      },
      [this, values = std::move(values)](result<specs> found) mutable {
        if (!found.ok()) return end(std::move(found).error());
        for (const auto& spec : *found) {
          auto& e = *o_.request.add_exporters();
          e.set_type(spec.type);
          for (const auto& [key, value] : spec.attributes) (*e.mutable_attrs())[key] = value;
        }
        name_exporters([this, values = std::move(values)] { run_exports(values); });
      });
}

void build_state::name_exporters(std::function<void()> then) {
  auto index = static_cast<int>(exporter_names_.size());
  if (index >= o_.request.exporters_size()) return then();
  auto worker = o_.peers.worker();
  if (!worker) return end(from_caf(peer_down(peers::worker_name)));
  self_->request(worker, caf::infinite, check_atom::value, spec_of(index))
      .then(
          [this, then = std::move(then)](const std::string& name) {
            exporter_names_.push_back(name);
            name_exporters(then);
          },
          [this](caf::error& e) { end(from_caf(e)); });
}

void build_state::gather_trail(std::vector<vertex_result> values) {
  auto graph = o_.peers.build_graph();
  if (!graph) return end(from_caf(peer_down(peers::build_graph_name)));
  self_->request(graph, caf::infinite, cache_atom::value, progress_handle())
      .then(
          [this, values](cache_steps& steps) {
            trail_.steps = std::move(steps.steps);
            trail_.results = values;
            for (const auto& [name, import] : imports_)
              if (!import.id.empty()) trail_.imports.push_back(import.id);
            attest(values);
          },
          [this](caf::error& e) { end(from_caf(e)); });
}

platform build_state::platform_of_part(const std::string& id) const {
  const auto& platforms = final_.platforms;
  auto known = std::find_if(platforms.begin(), platforms.end(), [&](const auto& p) { return p.first == id; });
  if (known != platforms.end()) return known->second;
  if (!final_.multi && platforms.size() == 1) return platforms.front().second;
  if (auto parsed = parse_platform(id); !id.empty() && parsed.ok()) return *parsed;
  return platforms_.empty() ? host_platform() : platforms_.front();
}

export_request build_state::request_of(int index, const std::vector<vertex_result>& values) const {
  export_request out;
  out.vertex = task_digest("export " + std::to_string(index));
  out.spec = spec_of(index);
  for (std::size_t i = 0; i < final_.refs.size(); ++i) {
    const auto& id = final_.refs[i].first;
    out.parts.push_back({id, platform_of_part(id), values[i].ref, final_.ready[i]});
  }
  out.multi_platform = final_.multi;
  out.metadata = final_.metadata;
  out.session = o_.request.session();
  out.sessions = sessions();
  out.inline_cache = std::any_of(cache_exports_.begin(), cache_exports_.end(), [](const auto& k) { return k.is_inline; });
  if (out.inline_cache) out.trail = trail_;
  return out;
}

void build_state::run_exports(std::vector<vertex_result> values) {
  if (phase_ != build_phase::evaluating) return;
  set_phase(build_phase::exporting);
  auto count = o_.request.exporters_size();
  auto warnings = verify_platforms({o_.request.frontendattrs().begin(), o_.request.frontendattrs().end()},
                                   final_.metadata, final_.multi, !final_.multi && final_.refs.front().second.empty());
  if (!warnings.ok()) return end(std::move(warnings).error());
  if (count == 0 && !warnings->empty()) {
    auto shown = open_task("Verifying build result");
    warn_of(*warnings, shown.digest());
    close_task(shown, "");
  }
  exports_.resize(static_cast<std::size_t>(count));
  open_exports_ = count;
  if (count == 0) return run_finalizers();
  auto worker = o_.peers.worker();
  if (!worker) return end(from_caf(peer_down(peers::worker_name)));
  for (int i = 0; i < count; ++i) {
    auto request = request_of(i, values);
    export_requests_.push_back(request);
    auto shown = open_task(exporter_names_[static_cast<std::size_t>(i)], request.vertex);
    if (i == 0) warn_of(*warnings, shown.digest());
    self_->request(worker, caf::infinite, std::move(request), progress_handle())
        .then(
            [this, i, shown](export_reply& reply) {
              close_task(shown, "");
              exports_[static_cast<std::size_t>(i)] = std::move(reply);
              one_export_less();
            },
            [this, shown](caf::error& e) {
              auto failure = from_caf(e);
              if (solver::lost_ref_of(failure).empty()) return export_failed(shown, e);
              close_task(shown, failure.message);
              lost_in_export_ = std::move(failure);
              one_export_less();
            });
  }
}

void build_state::one_export_less() {
  if (--open_exports_ > 0 || phase_ != build_phase::exporting) return;
  if (!lost_in_export_) return run_finalizers();
  auto failure = *std::exchange(lost_in_export_, std::nullopt);
  if (!remake(failure)) return end(std::move(failure));
  set_phase(build_phase::evaluating);
  exports_.clear();
  export_requests_.clear();
  std::vector<std::string> ids;
  for (const auto& [key, id] : final_.refs) ids.push_back(id);
  evaluate_refs(std::move(ids), [this](result<std::vector<vertex_result>> all) {
    if (!all.ok()) return end(std::move(all).error());
    run_exports(*std::move(all));
  });
}

void build_state::warn_of(const std::vector<std::string>& texts, const std::string& vertex) {
  ctl::StatusResponse out;
  for (const auto& text : texts) {
    auto& w = *out.add_warnings();
    w.set_vertex(vertex);
    w.set_level(1);
    w.set_short_(text);
  }
  if (out.warnings_size() > 0) log_.add(std::move(out));
}

void build_state::export_failed(const ctl::Vertex& shown, const caf::error& e) {
  auto failure = from_caf(e);
  close_task(shown, failure.message);
  end(std::move(failure));
}

void build_state::run_finalizers() {
  if (phase_ != build_phase::exporting) return;
  set_phase(build_phase::pushing);
  open_exports_ = 1;
  auto worker = o_.peers.worker();
  for (std::size_t i = 0; i < exports_.size(); ++i) {
    if (exports_[i].finalize == 0) continue;
    ++open_exports_;
    auto shown = open_task(exporter_names_[i], export_requests_[i].vertex);
    self_->request(worker, caf::infinite, finalize_atom::value, exports_[i].finalize, export_requests_[i],
                   progress_handle())
        .then(
            [this, i, shown](export_reply& reply) {
              close_task(shown, "");
              for (auto& [key, value] : reply.response) exports_[i].response[key] = value;
              if (--open_exports_ == 0) succeed();
            },
            [this, shown](caf::error& e) { export_failed(shown, e); });
  }
  run_cache_exports();
  if (--open_exports_ == 0) succeed();
}

void build_state::run_cache_exports() {
  auto worker = o_.peers.worker();
  for (std::size_t i = 0; i < cache_exports_.size(); ++i) {
    const auto& kind = cache_exports_[i];
    if (kind.is_inline) continue;
    if (!worker) return end(from_caf(peer_down(peers::worker_name)));
    ++open_exports_;
    auto shown = open_task(kind.name, task_digest("cache export " + std::to_string(i)));
    cache_export request{shown.digest(), entry_of(o_.request.cache().exports(static_cast<int>(i))), trail_,
                         sessions()};
    self_->request(worker, caf::infinite, std::move(request), progress_handle())
        .then(
            [this, shown](export_reply& reply) {
              close_task(shown, "");
              cache_response_.merge(reply.response);
              if (--open_exports_ == 0) succeed();
            },
            [this, shown, ignore = kind.ignore_error](caf::error& e) {
              if (!ignore) return export_failed(shown, e);
              close_task(shown, from_caf(e).message);
              if (--open_exports_ == 0) succeed();
            });
  }
}

void build_state::succeed() {
  ctl::SolveResponse response;
  auto& out = *response.mutable_exporterresponse();
  // One answer for all exporters; later ones come first in it. The last word has the one whose image the client
  // itself enters into the index of a directory, by what is said here.
  std::vector<std::size_t> order(exports_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_partition(order.begin(), order.end(), [this](std::size_t i) {
    auto spec = spec_of(static_cast<int>(i));
    return !exporters::writes_to_client_store(spec.type, spec.attributes);
  });
  for (auto i : order)
    for (const auto& [key, value] : exports_[i].response) out[key] = value;
  for (const auto& [key, value] : final_.metadata)
    if (key.starts_with("frontend.")) out[key] = value;
  for (const auto& [key, value] : cache_response_)
    if (key.starts_with("cache.")) out[key] = value;
  if (!o_.request.enablesessionexporter()) return end(std::move(response));
  std::map<std::string, std::string> told(out.begin(), out.end());
  jobs_.run<bool>(
      self_, *o_.calls,
      [directory = o_.sessions, session = o_.request.session(), told = std::move(told),
       stop = channel_->stop_token()]() -> result<bool> {
        KILN_CHECK(finalize_session_export(directory, session, told, stop));
        return true;
      },
      [this, response = std::move(response)](result<bool> agreed) mutable {
        if (agreed.ok()) return end(std::move(response));
        end(std::move(agreed).error());
      });
}

}  // namespace kiln::actors
