#include "actors/build/result_attester.hpp"

#include <algorithm>
#include <utility>

#include "frontends/llb/graph.hpp"
#include "messages/proxy_capture.hpp"
#include "store/database/cache_keys.hpp"
#include "store/ref_store.hpp"

namespace kiln::actors {

namespace {

/// The record that one of these leads to; empty when none does.
std::string record_of_keys(store::ref_store& store, const std::vector<std::string>& keys) {
  for (const auto& key : keys)
    for (const auto& found : store.keys().results(key)) return found.id;
  return {};
}

}  // namespace

void result_attester::finish(build_result result, bool keep_steps, std::function<void()> then) {
  result_ = std::move(result);
  keep_steps_ = keep_steps;
  then_ = std::move(then);
  refs_.evaluate(result_.ref_ids(), [this](kiln::result<std::vector<vertex_result>> all) {
    if (!all.ok()) return b_.fail(std::move(all).error());
    values_ = *std::move(all);
    scan();
  });
}

build_attestations::known_result result_attester::known() const {
  return b_.attestations.look(result_.parts(b_.default_platform()), trail_.steps, refs_.definitions(),
                              b_.default_platform());
}

void result_attester::scan() {
  const auto& wanted = b_.attestations.wanted_sbom();
  auto parts = result_.parts(b_.default_platform());
  std::erase_if(parts, [](const auto& p) { return p.ref.empty(); });
  if (!wanted || parts.empty() || has_sbom(result_.attestations)) return evaluate_attestations();
  // The scanner is no material of what it looks at.
  auto scope = b_.attestations.requests().open_aside();
  auto platform = b_.default_platform();
  gw::ResolveImageConfigRequest question;
  question.set_ref(wanted->generator);
  to_proto(platform, *question.mutable_platform());
  const auto& options = b_.request().frontendattrs();
  auto mode = options.find("image-resolve-mode");
  question.set_resolvemode(mode == options.end() ? "default" : mode->second);
  sources_.resolve(std::move(question), scope,
                   [this, parts, scope, platform](kiln::result<gw::ResolveImageConfigResponse> image) {
                     if (b_.over) return;
                     if (!image.ok()) return b_.fail(std::move(image).error());
                     auto scanner = frontends::make_scanner(*b_.attestations.wanted_sbom(), image->ref(),
                                                            image->config(), platform);
                     if (!scanner.ok()) return b_.fail(std::move(scanner).error());
                     add_scans(parts, *std::move(scanner), scope);
                   });
}

void result_attester::add_scans(const std::vector<attested_part>& parts, frontends::sbom_scanner scanner,
                                int scope) {
  struct target {
    std::string name;
    std::shared_ptr<const pb::Definition> definition;
  };
  std::vector<target> targets;
  for (const auto& part : parts) {
    targets.push_back({part.id, refs_.definitions()(part.ref)});
    if (!targets.back().definition)
      return b_.fail(make_error(errc::internal, "the result for " + part.id + " has no definition to scan"));
  }
  const auto& options = b_.request().frontendattrs();
  auto no_cache = options.find("no-cache");
  // Empty: nothing of the build is to come from the cache.
  bool ignore_cache = no_cache != options.end() && no_cache->second.empty();
  using scans = std::vector<pb::Definition>;
  b_.jobs.run<scans>(
      b_.self, *b_.options.io,
      [targets, scanner = std::move(scanner), ignore_cache]() -> kiln::result<scans> {
        scans out;
        for (const auto& t : targets) {
          llb::graph graph;
          frontends::scan_target wanted;
          wanted.name = t.name;
          wanted.ignore_cache = ignore_cache;
          KILN_TRY(wanted.files, llb::import_definition(graph, *t.definition));
          KILN_TRY(auto found, frontends::scan(graph, scanner, wanted));
          KILN_TRY(auto scanning, llb::marshal(found, {scanner.platform}));
          out.push_back(std::move(scanning));
        }
        return out;
      },
      [this, targets, scope](kiln::result<scans> made) {
        if (b_.over) return;
        if (!made.ok()) return b_.fail(std::move(made).error());
        auto policies = sources_.policies_with({});
        if (!policies.ok()) return b_.fail(std::move(policies).error());
        for (std::size_t i = 0; i < targets.size(); ++i) {
          auto ref = refs_.add((*made)[i], *policies, scope);
          result_.attestations[targets[i].name].emplace_back(attestation_of(frontends::scan_attestation(ref)),
                                                             ref);
        }
        evaluate_attestations();
      });
}

void result_attester::evaluate_attestations() {
  std::vector<std::string> ids;
  for (const auto& [key, list] : result_.attestations)
    for (const auto& [a, id] : list) ids.push_back(id);
  refs_.evaluate(std::move(ids), [this](kiln::result<std::vector<vertex_result>> all) {
    if (!all.ok()) return b_.fail(std::move(all).error());
    auto next = all->begin();
    for (auto& [key, list] : result_.attestations)
      for (auto& [a, id] : list) a.ref = (next++)->ref;
    if (keep_steps_ || b_.attestations.wants_provenance()) return gather_trail();
    attest();
  });
}

void result_attester::gather_trail() {
  auto graph = b_.build_graph();
  if (!graph.ok()) return b_.fail(std::move(graph).error());
  b_.self->request(*graph, caf::infinite, cache_atom::value, b_.progress())
      .then(
          [this](cache_steps& steps) {
            trail_.steps = std::move(steps.steps);
            trail_.results = values_;
            trail_.imports = imports_.ids();
            recall_captures();
          },
          [this](caf::error& e) { b_.fail(from_caf(e)); });
}

void result_attester::recall_captures() {
  auto is_unknown = [](const cache_step& s) { return !s.proxy_op.empty() && s.proxied.empty(); };
  auto* store = b_.options.store;
  if (!store || std::none_of(trail_.steps.begin(), trail_.steps.end(), is_unknown)) return attest();
  using steps = std::vector<cache_step>;
  b_.jobs.run<steps>(
      b_.self, *b_.options.io,
      [is_unknown, store, all = trail_.steps]() mutable -> kiln::result<steps> {
        for (auto& s : all) {
          if (!is_unknown(s)) continue;
          auto record = s.ref.empty() ? record_of_keys(*store, s.keys) : s.ref;
          if (!record.empty())
            s.proxied = store->values().of_record(record, capture_key(s.proxy_op)).value_or("");
        }
        return all;
      },
      [this](kiln::result<steps> known) {
        if (b_.over) return;
        if (known.ok()) trail_.steps = *std::move(known);
        attest();
      });
}

void result_attester::attest() {
  using lists = std::vector<std::vector<attestation>>;
  if (!b_.attestations.wants_provenance()) return attested(lists(result_.refs.size()));
  b_.jobs.run<lists>(
      b_.self, *b_.options.io,
      [known = known(), steps = trail_.steps, store = b_.options.store] {
        auto record_of = [store](const std::vector<std::string>& keys) {
          return store ? record_of_keys(*store, keys) : std::string();
        };
        return build_attestations::make(known, steps, record_of);
      },
      [this](kiln::result<lists> own) {
        if (!own.ok()) return b_.fail(std::move(own).error());
        attested(*std::move(own));
      });
}

void result_attester::attested(std::vector<std::vector<attestation>> own) {
  if (b_.over) return;
  auto parts = result_.parts(b_.default_platform());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    auto& ready = result_.ready.emplace_back();
    if (auto given = result_.attestations.find(parts[i].id); given != result_.attestations.end())
      for (const auto& [a, id] : given->second) ready.push_back(a);
    for (auto& a : own[i]) ready.push_back(std::move(a));
  }
  std::exchange(then_, nullptr)();
}

}  // namespace kiln::actors
