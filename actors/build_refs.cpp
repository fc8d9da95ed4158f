// Results of a build: refs, what they are made from, the caches they may come from.
#include <algorithm>
#include <set>

#include <spdlog/spdlog.h>

#include "actors/build_state.hpp"
#include "actors/graph_spec.hpp"
#include "configs/placing.hpp"
#include "configs/solving.hpp"
#include "exporters/cache/cache_importer.hpp"
#include "solver/error_details.hpp"
#include "solver/graph.hpp"
#include "workers/sources/resolutions.hpp"

namespace kiln::actors {

void build_state::remember_sources() {
  if (o_.builds) sources_ = o_.builds->open(build_name(caf::strong_actor_ptr{self_->ctrl()}));
}

std::string build_state::add_ref(const pb::Definition& definition, std::vector<solver::source_policy> policies, int frame) {
  auto id = new_id();
  attestations_.requests().add_ref(frame, id);
  refs_[id].definition = std::make_shared<const pb::Definition>(definition);
  refs_[id].policies = std::move(policies);
  return id;
}

status build_state::room_for(const pb::Definition& definition) {
  namespace cfg = configs::solving;
  if (refs_.size() >= cfg::refs_max)
    return make_error(errc::resource_exhausted,
                      "a build may be asked for " + std::to_string(cfg::refs_max) + " results, not for more");
  definitions_bytes_ += definition.ByteSizeLong();
  if (definitions_bytes_ > cfg::definitions_bytes_max)
    return make_error(errc::resource_exhausted, "the definitions of a build have " + std::to_string(definitions_bytes_) +
                                                    " bytes: at most " + std::to_string(cfg::definitions_bytes_max) +
                                                    " are allowed");
  return {};
}

definition_lookup build_state::definitions() const {
  return [this](const std::string& id) -> std::shared_ptr<const pb::Definition> {
    auto found = refs_.find(id);
    return found == refs_.end() ? nullptr : found->second.definition;
  };
}

result<std::vector<solver::source_policy>> build_state::policies_with(
    const google::protobuf::RepeatedPtrField<solver::source_policy>& more) const {
  std::vector<solver::source_policy> out;
  if (o_.request.sourcepolicy().rules_size() > 0) out.push_back(o_.request.sourcepolicy());
  for (const auto& policy : more) {
    KILN_CHECK(solver::validate(policy));
    out.push_back(policy);
  }
  return out;
}

void build_state::evaluate(const std::string& id, continuation<vertex_result> done) {
  if (id.empty()) return done(vertex_result{});
  if (left_.contains(id)) return done(vertex_result{id, {}});
  auto found = refs_.find(id);
  if (found == refs_.end()) return done(make_error(errc::unknown, "no such ref: " + id));
  auto& ref = found->second;
  if (ref.value) return done(*ref.value);
  if (auto s = refuse_late(); !s.ok()) return done(std::move(s).error());
  ref.waiters.push_back(std::move(done));
  if (!std::exchange(ref.asked, true)) load(id);
}

void build_state::settle(const std::string& id, result<vertex_result> value) {
  auto& ref = refs_[id];
  if (ref.value) return;
  if (!value.ok()) keep_left(value.error());
  ref.value = std::move(value);
  auto settled = *ref.value;
  for (auto& w : std::exchange(ref.waiters, {})) w(settled);
}

void build_state::keep_left(const error& e) {
  auto worker = o_.peers.worker();
  for (auto& id : solver::refs_of(e)) {
    if (!left_.insert(id).second || !worker) continue;
    // Whoever failed may have been another build's.
    self_->request(worker, caf::infinite, pin_atom::value, id).then([](bool) {}, [](caf::error&) {});
  }
}

pb::Platform build_state::default_platform() const {
  pb::Platform out;
  to_proto(platforms_.empty() ? host_platform() : platforms_.front(), out);
  return out;
}

policy_questions build_state::policy_questions_of(int frame) {
  policy_questions out;
  out.check = [this](policy::CheckPolicyRequest request, continuation<policy::CheckPolicyResponse> done) {
    jobs_.run<policy::CheckPolicyResponse>(
        self_, *o_.calls,
        [directory = o_.sessions, id = o_.request.sourcepolicysession(), stop = channel_->stop_token(),
         bytes = request.SerializeAsString()]() -> result<policy::CheckPolicyResponse> {
          if (!directory) return make_error(errc::failed_precondition, "no active sessions");
          KILN_TRY(auto client, directory->find(id, configs::solving::find_wait, stop));
          KILN_TRY(auto reply,
                   client->call("/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy", bytes, {},
                                configs::solving::policy_answer_wait, stop));
          policy::CheckPolicyResponse out;
          if (!out.ParseFromString(reply)) return make_error(errc::internal, "malformed policy response");
          return out;
        },
        std::move(done));
  };
  out.resolve = [this, frame](gw::ResolveSourceMetaRequest request,
                              continuation<gw::ResolveSourceMetaResponse> done) {
    resolve_now(std::move(request), frame, std::move(done));
  };
  return out;
}

namespace {

reviewed_source subject_of(const pb::Op& op, const pb::Platform& default_platform) {
  return {op.source(), op.has_platform() ? op.platform() : default_platform};
}

/// The different sources of a definition; what is no op is for the loading to refuse.
std::vector<reviewed_source> sources_of(const pb::Definition& definition, const pb::Platform& default_platform) {
  std::vector<reviewed_source> out;
  std::set<std::string> seen;
  for (const auto& bytes : definition.def()) {
    pb::Op op;
    if (!op.ParseFromString(bytes) || !op.has_source()) continue;
    auto subject = subject_of(op, default_platform);
    if (seen.insert(source_key(subject)).second) out.push_back(std::move(subject));
  }
  return out;
}

bool is_small(const pb::Definition& definition) {
  return definition.ByteSizeLong() <= configs::solving::quick_definition_bytes;
}

}  // namespace

void build_state::load(const std::string& id) {
  const auto& ref = refs_[id];
  if (o_.request.sourcepolicysession().empty())
    return load_with(
        id, [policies = ref.policies](pb::Op& op) { return apply_policies(policies, *op.mutable_source()); });
  using sources = std::vector<reviewed_source>;
  jobs_.run_unless<sources>(
      is_small(*ref.definition), self_, *o_.io,
      [definition = ref.definition, platform = default_platform()]() -> result<sources> {
        return sources_of(*definition, platform);
      },
      [this, id](result<sources> found) {
        if (!found.ok()) return settle(id, std::move(found).error());
        review(id, *std::move(found));
      });
}

void build_state::review(const std::string& id, std::vector<reviewed_source> sources) {
  struct reviews {
    std::map<std::string, pb::SourceOp> passed;
    std::size_t missing = 1;
    std::optional<error> refused;
  };
  auto all = std::make_shared<reviews>();
  auto one_less = [this, id, all] {
    if (--all->missing > 0) return;
    if (all->refused) return settle(id, std::move(*all->refused).with_context("failed to load LLB"));
    load_with(id, [all, platform = default_platform()](pb::Op& op) -> status {
      auto found = all->passed.find(source_key(subject_of(op, platform)));
      if (found == all->passed.end())
        return make_error(errc::internal, "source \"" + op.source().identifier() + "\" was not reviewed");
      *op.mutable_source() = found->second;
      return {};
    });
  };
  auto policies = refs_[id].policies;
  for (auto& subject : sources) {
    ++all->missing;
    auto key = source_key(subject);
    review_source(policies, std::move(subject), policy_questions_of(0),
                  [all, one_less, key = std::move(key)](result<pb::SourceOp> source) {
                    if (source.ok()) all->passed[key] = *std::move(source);
                    else if (!all->refused) all->refused = std::move(source).error();
                    one_less();
                  });
  }
  one_less();
}

void build_state::load_with(const std::string& id, std::function<status(pb::Op&)> mutate) {
  struct loaded {
    graph_spec spec;
    std::map<std::string, bool> caches;
    std::shared_ptr<const build_attestations::loaded_ref> about;
  };
  auto definition = refs_[id].definition;
  bool small = is_small(*definition);
  jobs_.run_unless<loaded>(
      small, self_, *o_.io,
      [definition = std::move(definition), granted = granted_, devices = devices_, platforms = platforms_,
       mutate = std::move(mutate), stop = channel_->stop_token(),
       name = build_name(caf::strong_actor_ptr{self_->ctrl()})]() -> result<loaded> {
        solver::load_options options;
        options.granted = &granted;
        options.devices = devices;
        if (!platforms.empty()) options.default_platform = platforms.front();
        options.mutate = mutate;
        options.stop = stop;
        auto g = solver::load(*definition, options);
        if (!g.ok()) return std::move(g).error().with_context("failed to load LLB");
        loaded out;
        out.caches = solver::caches_to_prune(*g);
        out.spec = to_spec(*std::move(g), "");
        keep_to_build(out.spec, name);
        out.about = build_attestations::read(out.spec);
        return out;
      },
      [this, id](result<loaded> done) {
        if (!done.ok()) return settle(id, std::move(done).error());
        if (auto s = refuse_late(); !s.ok()) return settle(id, std::move(s).error());
        attestations_.loaded(id, std::move(done->about));
        if (done->caches.empty()) return place(id, std::move(done->spec));
        auto worker = o_.peers.worker();
        if (!worker) return settle(id, from_caf(peer_down(peers::worker_name)));
        self_->request(worker, caf::infinite, prune_caches{std::move(done->caches)})
            .then([this, id, spec = std::move(done->spec)](bool) mutable { place(id, std::move(spec)); },
                  [this, id](caf::error& e) { settle(id, from_caf(e)); });
      });
}

void build_state::place(const std::string& id, graph_spec spec) {
  auto wanted = refs_[id].imports;
  wanted.insert(wanted.end(), own_imports_.begin(), own_imports_.end());
  when_imported(wanted, [this, id, wanted, spec = std::move(spec)]() mutable {
    for (const auto& name : wanted)
      if (const auto& import = imports_.at(name); !import.id.empty()) spec.imports.push_back(import.id);
    place_now(id, std::move(spec));
  });
}

void build_state::place_now(const std::string& id, graph_spec spec) {
  auto graph = o_.peers.build_graph();
  if (!graph) return settle(id, from_caf(peer_down(peers::build_graph_name)));
  auto index = spec.root.index;
  self_->request(graph, caf::infinite, load_atom::value, std::move(spec), progress_handle(), o_.request.session())
      .then(
          [this, id, index](const vertex_actor& root) {
            refs_[id].root = root;
            refs_[id].index = index;
            ask_root(id);
          },
          [this, id](caf::error& e) { settle(id, from_caf(e)); });
}

void build_state::ask_root(const std::string& id) {
  self_->request(refs_[id].root, caf::infinite, result_atom::value, refs_[id].index)
      .then([this, id](vertex_result& value) { settle(id, std::move(value)); },
            [this, id](caf::error& e) { settle(id, from_caf(e)); });
}

bool build_state::remake(const error& e) {
  auto lost = solver::lost_ref_of(e);
  bool any = false;
  for (auto& [id, ref] : refs_) {
    if (lost.empty() || !ref.value || !ref.value->ok() || (*ref.value)->ref != lost || !ref.root) continue;
    if (++ref.remade > configs::placing::rederived_max) continue;
    any = true;
    self_->send(ref.root, lost_atom::value, ref.index, lost);
    ref.value.reset();
    ask_root(id);
  }
  if (any) spdlog::info("build {}: {}", o_.request.ref(), e.message);
  return any;
}

void build_state::evaluate_refs(std::vector<std::string> ids, continuation<std::vector<vertex_result>> done) {
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
    evaluate(ids[i], [all, i, done](result<vertex_result> value) {
      if (all->failed) return;
      if (!value.ok()) {
        all->failed = true;
        return done(std::move(value).error());
      }
      all->values[i] = *std::move(value);
      if (--all->missing == 0) done(std::move(all->values));
    });
}

void build_state::lend(container_inputs wanted, continuation<container_inputs> done) {
  evaluate_refs(std::move(wanted.refs), [this, done](result<std::vector<vertex_result>> values) {
    if (!values.ok()) return done(std::move(values).error());
    container_inputs out;
    for (auto& value : *values) out.refs.push_back(std::move(value.ref));
    if (!o_.request.session().empty()) out.sessions.ids.push_back(o_.request.session());
    out.network_host = granted_.has("network.host");
    out.security_insecure = granted_.has("security.insecure");
    done(std::move(out));
  });
}

std::vector<std::string> build_state::ids_of(const gw::Result& r) {
  std::vector<std::string> out;
  if (r.has_refs()) {
    for (const auto& [key, ref] : r.refs().refs()) out.push_back(ref.id());
  } else if (r.has_refsdeprecated()) {
    for (const auto& [key, id] : r.refsdeprecated().refs()) out.push_back(id);
  } else {
    out.push_back(r.has_ref() ? r.ref().id() : r.refdeprecated());
  }
  return out;
}

void build_state::add_definitions(gw::Result& r) const {
  auto add = [this](gw::Ref& ref) {
    if (ref.has_def()) return;
    if (auto found = refs_.find(ref.id()); found != refs_.end()) *ref.mutable_def() = *found->second.definition;
  };
  if (r.has_ref()) add(*r.mutable_ref());
  if (r.has_refs())
    for (auto& [key, ref] : *r.mutable_refs()->mutable_refs()) add(ref);
}

void build_state::to_deprecated(gw::Result& r) {
  if (r.has_refs()) {
    gw::RefMapDeprecated old;
    for (const auto& [key, ref] : r.refs().refs()) (*old.mutable_refs())[key] = ref.id();
    *r.mutable_refsdeprecated() = std::move(old);
  } else if (r.has_ref()) {
    r.set_refdeprecated(std::string(r.ref().id()));
  }
}

std::vector<std::string> build_state::begin_imports(const gw::SolveRequest& r) {
  std::vector<std::string> names;
  for (const auto& import : r.cacheimports())
    names.push_back(begin_import({import.type(), {import.attrs().begin(), import.attrs().end()}}));
  return names;
}

std::string build_state::begin_import(cache_entry entry) {
  auto name = exporters::cache_import_id(entry.type, entry.attributes);
  auto [at, fresh] = imports_.try_emplace(name);
  if (!fresh) return name;
  auto shown = open_task("importing cache manifest from " + name);
  auto ended = [this, name, shown](const std::string& id, const std::string& failure) {
    close_task(shown, failure);
    if (!failure.empty()) spdlog::info("build {}: cache {} not imported: {}", o_.request.ref(), name, failure);
    imports_[name] = {true, id};
    for (auto& retry : std::exchange(waiting_for_imports_, {})) retry();
  };
  auto worker = o_.peers.worker();
  if (!worker) return ended("", from_caf(peer_down(peers::worker_name)).message), name;
  auto id = o_.request.ref() + "/" + name;
  self_->request(worker, caf::infinite, cache_import{id, shown.digest(), std::move(entry), sessions()},
                 progress_handle())
      .then([ended, id](bool) { ended(id, ""); }, [ended](caf::error& e) { ended("", from_caf(e).message); });
  return name;
}

void build_state::when_imported(std::vector<std::string> names, std::function<void()> work) {
  bool open = std::any_of(names.begin(), names.end(), [&](const auto& n) { return !imports_.at(n).ended; });
  if (!open) return work();
  waiting_for_imports_.push_back([this, names = std::move(names), work = std::move(work)]() mutable {
    when_imported(std::move(names), std::move(work));
  });
}

}  // namespace kiln::actors
