#include "actors/build/ref_table.hpp"

#include <utility>

#include <spdlog/spdlog.h>

#include "actors/solve/graph_spec.hpp"
#include "configs/placing.hpp"
#include "configs/solving.hpp"
#include "messages/located_id.hpp"
#include "solver/error_details.hpp"
#include "solver/graph.hpp"

namespace kiln::actors {

status ref_table::room_for(const pb::Definition& definition) {
  namespace cfg = configs::solving;
  if (refs_.size() >= cfg::refs_max)
    return make_error(errc::resource_exhausted,
                      "a build may be asked for " + std::to_string(cfg::refs_max) + " results, not for more");
  definitions_bytes_ += definition.ByteSizeLong();
  if (definitions_bytes_ > cfg::definitions_bytes_max)
    return make_error(errc::resource_exhausted,
                      "the definitions of a build have " + std::to_string(definitions_bytes_) +
                          " bytes: at most " + std::to_string(cfg::definitions_bytes_max) + " are allowed");
  return {};
}

std::string ref_table::add(const pb::Definition& definition, build_sources::policies policies, int scope,
                           std::vector<std::string> imports) {
  auto id = new_id();
  b_.attestations.requests().add_ref(scope, id);
  auto& added = refs_[id];
  added.definition = std::make_shared<const pb::Definition>(definition);
  added.policies = std::move(policies);
  added.imports = std::move(imports);
  return id;
}

definition_lookup ref_table::definitions() const {
  return [this](const std::string& id) -> std::shared_ptr<const pb::Definition> {
    auto found = refs_.find(id);
    return found == refs_.end() ? nullptr : found->second.definition;
  };
}

void ref_table::add_definitions(gw::Result& r) const {
  auto add = [this](gw::Ref& ref) {
    if (ref.has_def()) return;
    if (auto found = refs_.find(ref.id()); found != refs_.end())
      *ref.mutable_def() = *found->second.definition;
  };
  if (r.has_ref()) add(*r.mutable_ref());
  if (r.has_refs())
    for (auto& [key, ref] : *r.mutable_refs()->mutable_refs()) add(ref);
}

void ref_table::evaluate(const std::string& id, continuation<vertex_result> done) {
  if (id.empty()) return done(vertex_result{});
  if (left_.contains(id)) return done(vertex_result{id, {}});
  auto found = refs_.find(id);
  if (found == refs_.end()) return done(make_error(errc::unknown, "no such ref: " + id));
  auto& ref = found->second;
  if (ref.value) return done(*ref.value);
  if (auto s = b_.refuse_late(); !s.ok()) return done(std::move(s).error());
  ref.waiters.push_back(std::move(done));
  if (!std::exchange(ref.asked, true)) review(id);
}

void ref_table::evaluate(std::vector<std::string> ids, continuation<std::vector<vertex_result>> done) {
  gather(
      std::move(ids), [this](const std::string& id, auto done) { evaluate(id, std::move(done)); },
      std::move(done));
}

void ref_table::evaluate_present(std::vector<std::string> ids,
                                 continuation<std::vector<vertex_result>> done) {
  gather(
      std::move(ids), [this](const std::string& id, auto done) { evaluate_present(id, std::move(done)); },
      std::move(done));
}

void ref_table::evaluate_present(const std::string& id, continuation<vertex_result> done) {
  evaluate(id, [this, id, done](result<vertex_result> value) {
    if (!value.ok() || !is_remote(value->ref)) return done(std::move(value));
    auto worker = b_.worker();
    if (!worker.ok()) return done(std::move(worker).error());
    b_.self->request(*worker, caf::infinite, pin_atom::value, value->ref)
        .then([value, done](bool) { done(value); },
              [this, id, done](caf::error& e) {
                auto failure = from_caf(e);
                if (remake(failure)) return evaluate_present(id, done);
                done(std::move(failure));
              });
  });
}

void ref_table::gather(std::vector<std::string> ids, const evaluator& one,
                       continuation<std::vector<vertex_result>> done) {
  struct gathering {
    std::vector<vertex_result> values;
    std::size_t missing = 0;
    bool failed = false;
  };
  auto all = std::make_shared<gathering>();
  all->values.resize(ids.size());
  all->missing = ids.size();
  if (ids.empty()) return done(std::vector<vertex_result>{});
  for (std::size_t i = 0; i < ids.size(); ++i)
    one(ids[i], [all, i, done](result<vertex_result> value) {
      if (all->failed) return;
      if (!value.ok()) {
        all->failed = true;
        return done(std::move(value).error());
      }
      all->values[i] = *std::move(value);
      if (--all->missing == 0) done(std::move(all->values));
    });
}

void ref_table::review(const std::string& id) {
  const auto& ref = refs_[id];
  sources_.review(ref.definition, ref.policies, [this, id](result<build_sources::op_change> change) {
    if (!change.ok()) return settle(id, std::move(change).error());
    load(id, *std::move(change));
  });
}

void ref_table::load(const std::string& id, build_sources::op_change change) {
  struct loaded {
    graph_spec spec;
    std::map<std::string, bool> caches;
    std::shared_ptr<const build_attestations::loaded_ref> about;
    std::map<std::string, std::vector<std::string>> conversions;
  };
  auto definition = refs_[id].definition;
  bool small = definition->ByteSizeLong() <= configs::solving::quick_definition_bytes;
  b_.jobs.run_unless<loaded>(
      small, b_.self, *b_.options.io,
      [definition = std::move(definition), granted = b_.granted, devices = b_.devices,
       platforms = b_.platforms, change = std::move(change), stop = b_.channel->stop_token(),
       name = build_name(caf::strong_actor_ptr{b_.self->ctrl()}),
       proxy = b_.proxy(refs_[id].policies)]() -> result<loaded> {
        solver::load_options options;
        options.granted = &granted;
        options.devices = devices;
        if (!platforms.empty()) options.default_platform = platforms.front();
        std::map<std::string, std::vector<std::string>> by_source;
        options.mutate = [&](pb::Op& op) -> status {
          std::vector<std::string> conversions;
          KILN_CHECK(change(op, conversions));
          if (!conversions.empty()) by_source[source_key({op.source(), {}})] = std::move(conversions);
          return {};
        };
        options.proxy_rules = text_of(proxy);
        options.stop = stop;
        auto g = solver::load(*definition, options);
        if (!g.ok()) return std::move(g).error().with_context("failed to load LLB");
        loaded out;
        if (!by_source.empty())
          for (const auto& v : g->vertices)
            if (auto found = by_source.find(source_key({v.op.source(), {}})); found != by_source.end())
              for (const auto& name : {v.original, v.digest})  // the latter where another build wrote it so
                out.conversions[solver::vertex_detail(name).value] = found->second;
        out.caches = solver::caches_to_prune(*g);
        out.spec = to_spec(*std::move(g), "", proxy);
        keep_to_build(out.spec, name);
        out.about = build_attestations::read(out.spec);
        return out;
      },
      [this, id](result<loaded> done) {
        if (!done.ok()) return settle(id, std::move(done).error());
        if (auto s = b_.refuse_late(); !s.ok()) return settle(id, std::move(s).error());
        b_.attestations.loaded(id, std::move(done->about));
        conversions_.merge(done->conversions);
        if (done->caches.empty()) return place_with_imports(id, std::move(done->spec));
        auto worker = b_.worker();
        if (!worker.ok()) return settle(id, std::move(worker).error());
        b_.self->request(*worker, caf::infinite, prune_caches{std::move(done->caches)})
            .then([this, id,
                   spec = std::move(done->spec)](bool) mutable { place_with_imports(id, std::move(spec)); },
                  [this, id](caf::error& e) { settle(id, from_caf(e)); });
      });
}

void ref_table::place_with_imports(const std::string& id, graph_spec spec) {
  imports_.when_ended(refs_[id].imports,
                      [this, id, spec = std::move(spec)](std::vector<std::string> found) mutable {
                        for (auto& import : found) spec.imports.push_back(std::move(import));
                        place(id, std::move(spec));
                      });
}

void ref_table::place(const std::string& id, graph_spec spec) {
  auto graph = b_.build_graph();
  if (!graph.ok()) return settle(id, std::move(graph).error());
  auto index = spec.root.index;
  b_.self
      ->request(*graph, caf::infinite, load_atom::value, std::move(spec), b_.progress(),
                b_.request().session())
      .then(
          [this, id, index](const vertex_actor& root) {
            refs_[id].root = root;
            refs_[id].index = index;
            ask_root(id);
          },
          [this, id](caf::error& e) { settle(id, from_caf(e)); });
}

void ref_table::ask_root(const std::string& id) {
  b_.self->request(refs_[id].root, caf::infinite, result_atom::value, refs_[id].index)
      .then([this, id](vertex_result& value) { settle(id, std::move(value)); },
            [this, id](caf::error& e) { settle(id, from_caf(e)); });
}

void ref_table::settle(const std::string& id, result<vertex_result> value) {
  auto& ref = refs_[id];
  if (ref.value) return;
  if (!value.ok()) {
    pin_failure_refs(value.error());
    value = blame_rules(std::move(value).error());
  }
  ref.value = std::move(value);
  auto settled = *ref.value;
  for (auto& w : std::exchange(ref.waiters, {})) w(settled);
}

error ref_table::blame_rules(error e) const {
  for (const auto& detail : e.details) {
    if (detail.type_url != solver::vertex_detail_type) continue;
    if (auto found = conversions_.find(detail.value); found != conversions_.end())
      return blame(std::move(e), found->second);
  }
  return e;
}

void ref_table::pin_failure_refs(const error& e) {
  auto worker = b_.worker();
  for (auto& id : solver::refs_of(e)) {
    if (!left_.insert(id).second || !worker.ok()) continue;
    // Whoever failed may have been another build's.
    b_.self->request(*worker, caf::infinite, pin_atom::value, id).then([](bool) {}, [](caf::error&) {});
  }
}

bool ref_table::remake(const error& e) {
  auto lost = solver::lost_ref_of(e);
  bool any = false;
  for (auto& [id, ref] : refs_) {
    if (lost.empty() || !ref.value || !ref.value->ok() || (*ref.value)->ref != lost || !ref.root) continue;
    if (++ref.remade > configs::placing::rederived_max) continue;
    any = true;
    b_.self->send(ref.root, lost_atom::value, ref.index, lost);
    ref.value.reset();
    ask_root(id);
  }
  if (any) spdlog::info("build {}: {}", b_.request().ref(), e.message);
  return any;
}

void ref_table::release_left() {
  if (auto worker = b_.worker(); worker.ok())
    for (const auto& id : std::exchange(left_, {})) b_.self->send(*worker, release_atom::value, id);
}

void ref_table::close(const error& why) {
  for (auto& [id, r] : refs_)
    for (auto& w : std::exchange(r.waiters, {})) w(why);
}

}  // namespace kiln::actors
