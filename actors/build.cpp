#include "actors/build.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include <spdlog/spdlog.h>

#include "actors/build_attestations.hpp"
#include "actors/build_log.hpp"
#include "actors/build_request.hpp"
#include "actors/frontend_bridge.hpp"
#include "actors/graph_spec.hpp"
#include "actors/policy_review.hpp"
#include "actors/progress.hpp"
#include "actors/session_exporters.hpp"
#include "actors/verify_platforms.hpp"
#include "configs/solving.hpp"
#include "exporters/cache/cache_importer.hpp"
#include "messages/rpc_status.hpp"
#include "rpc_status.pb.h"
#include "solver/caps.hpp"
#include "solver/entitlements.hpp"
#include "solver/graph.hpp"
#include "solver/source_policy.hpp"
#include "store/ref_store.hpp"

namespace kiln::actors {

namespace {

/// One result of this build, solved when somebody needs it.
struct build_ref {
  pb::Definition definition;
  std::vector<solver::source_policy> policies;
  std::vector<std::string> imports;  // ids, besides those of the request
  bool asked = false;
  std::optional<result<vertex_result>> value;
  std::vector<continuation<vertex_result>> waiters;
};

/// A cache being imported, or imported, or given up.
struct build_import {
  bool ended = false;
  std::string id;  // by which vertices find it; empty when there is nothing to find
};

/// What the build's frontend, definition or client came to.
struct final_result {
  bool multi = false;
  std::vector<std::pair<std::string, std::string>> refs;  // platform id → ref id; "" → … when single
  std::map<std::string, std::string> metadata;
  frontend_attestations attestations;
  std::vector<std::vector<attestation>> ready;  // those to export, one list a ref
  std::vector<std::pair<std::string, platform>> platforms;  // as the metadata lists them
};

enum class phase { created, checking, solving, evaluating, exporting, pushing, recording, finished };

class build_state : public bridge_face {
 public:
  build_state(build_impl::pointer self, build_options options)
      : self_(self), o_(std::move(options)), channel_(std::make_shared<bridge_channel>(handle_of<caf::actor>(self))) {}

  ~build_state() override {
    channel_->close();
    auto gone = make_error(errc::cancelled, "context canceled");
    if (answer_) answer_->deliver(to_caf(gone));
    for (auto& [id, refuse] : std::exchange(unanswered_, {})) refuse(gone);
    for (auto& [id, r] : refs_)
      for (auto& w : std::exchange(r.waiters, {})) w(gone);
    log_.close();
  }

  build_impl::behavior_type behavior() {
    return {
        [this](gw::PingRequest&) {
          return ask<gw::PongResponse>([&](auto done) { when_ready([this, done] { done(ping()); }); });
        },
        [this](gw::SolveRequest& r) { return ask_solve(0, r); },
        [this](std::int32_t frame, gw::SolveRequest& r) { return ask_solve(frame, r); },
        [this](gw::ResolveImageConfigRequest& r) { return ask_image_config(0, r); },
        [this](std::int32_t frame, gw::ResolveImageConfigRequest& r) { return ask_image_config(frame, r); },
        [this](gw::ResolveSourceMetaRequest& r) { return ask_source_meta(0, r); },
        [this](std::int32_t frame, gw::ResolveSourceMetaRequest& r) { return ask_source_meta(frame, r); },
        [this](gw::ReadFileRequest& r) {
          return ask<gw::ReadFileResponse>([&](auto done) { read_file(std::move(r), done); });
        },
        [this](gw::ReadDirRequest& r) {
          return ask<gw::ReadDirResponse>([&](auto done) { read_dir(std::move(r), done); });
        },
        [this](gw::StatFileRequest& r) {
          return ask<gw::StatFileResponse>([&](auto done) { stat_file(std::move(r), done); });
        },
        [this](gw::EvaluateRequest& r) {
          return ask<gw::EvaluateResponse>([&](auto done) {
            evaluate(r.ref(), [done](result<vertex_result> v) {
              if (v.ok()) {
                done(gw::EvaluateResponse{});
              } else {
                done(std::move(v).error());
              }
            });
          });
        },
        [this](gw::WarnRequest& r) {
          return ask<gw::WarnResponse>([&](auto done) { warn(std::move(r), done); });
        },
        [this](gw::InputsRequest&) {
          gw::InputsResponse out;
          *out.mutable_definitions() = o_.request.frontendinputs();
          return out;
        },
        [this](gw::ReturnRequest& r) { return take_return(r); },
        [this](container_inputs& wanted) {
          return ask<container_inputs>([&](auto done) {
            when_ready([this, wanted = std::move(wanted), done]() mutable { lend(std::move(wanted), done); });
          });
        },
        [this](cancel_atom) { end(make_error(errc::cancelled, "context canceled")); },
        [this](start_atom) { return start(); },
        [this](watch_atom, const status_listener& who) { log_.watch(who); },
        [this](ctl::StatusResponse& status) { log_.add(std::move(status)); },
        [this](tick_atom, std::uint64_t id) {
          if (id == bridge_tick) {
            channel_->serve(*this);
          } else {
            jobs_.finish(id);
          }
        },
    };
  }

  // The questions of frontends and gateway clients.

  void solve(gw::SolveRequest r, int frame, continuation<gw::SolveResponse> done) override {
    if (auto s = refuse_late(); !s.ok()) return done(std::move(s).error());
    auto policies = policies_with(r.sourcepolicies());
    if (!policies.ok()) return done(std::move(policies).error());
    bool array = r.allowresultarrayref(), inline_result = r.allowresultreturn();
    auto evaluate_all = r.evaluate();
    auto respond = [this, array, inline_result, evaluate_all, done](result<gw::Result> solved) {
      if (!solved.ok()) return done(std::move(solved).error());
      auto reply = [this, array, inline_result, done, solved](status s) {
        if (!s.ok()) return done(std::move(s).error());
        gw::SolveResponse out;
        *out.mutable_result() = *solved;
        add_definitions(*out.mutable_result());
        attestations_.handed_on(*solved, definitions());
        if (solved->has_refs() && !inline_result)
          return done(make_error(errc::unknown, "solve did not return default result"));
        if (!inline_result) out.set_ref(solved->ref().id());
        if (!array) to_deprecated(*out.mutable_result());
        done(std::move(out));
      };
      if (!evaluate_all) return reply({});
      evaluate_refs(ids_of(*solved), [reply](result<std::vector<vertex_result>> all) {
        reply(all.ok() ? status{} : status(std::move(all).error()));
      });
    };
    if (r.has_definition() && r.definition().def_size() > 0) {
      gw::Result out;
      auto id = add_ref(r.definition(), *std::move(policies), frame);
      refs_[id].imports = begin_imports(r);
      out.mutable_ref()->set_id(id);
      *out.mutable_ref()->mutable_def() = r.definition();
      return respond(std::move(out));
    }
    if (!r.frontend().empty()) {
      std::map<std::string, std::string> options(r.frontendopt().begin(), r.frontendopt().end());
      std::map<std::string, pb::Definition> inputs(r.frontendinputs().begin(), r.frontendinputs().end());
      return run_frontend(r.frontend(), std::move(options), std::move(inputs), frame, respond);
    }
    gw::Result nothing;
    nothing.mutable_ref();
    respond(std::move(nothing));
  }

  void resolve_image_config(gw::ResolveImageConfigRequest r, int frame,
                            continuation<gw::ResolveImageConfigResponse> done) override {
    gw::ResolveSourceMetaRequest meta;
    auto& source = *meta.mutable_source();
    bool layout = r.resolvertype() == 1;
    source.set_identifier((layout ? "oci-layout://" : "docker-image://") + r.ref());
    if (layout) {
      if (!r.sessionid().empty()) (*source.mutable_attrs())["oci.session"] = r.sessionid();
      if (!r.storeid().empty()) (*source.mutable_attrs())["oci.store"] = r.storeid();
    } else if (!r.resolvemode().empty()) {
      (*source.mutable_attrs())["image.resolvemode"] = r.resolvemode();
    }
    if (r.has_platform()) *meta.mutable_platform() = r.platform();
    meta.set_resolvemode(r.resolvemode());
    meta.set_logname(r.logname());
    meta.mutable_image();
    *meta.mutable_sourcepolicies() = r.sourcepolicies();
    resolve_source_meta(std::move(meta), frame, [done, ref = r.ref()](result<gw::ResolveSourceMetaResponse> reply) mutable {
      if (!reply.ok()) return done(std::move(reply).error());
      gw::ResolveImageConfigResponse out;
      // A policy may have made another image of it.
      const auto& resolved = reply->source().identifier();
      for (std::string_view scheme : {"docker-image://", "oci-layout://"})
        if (resolved.starts_with(scheme)) ref = resolved.substr(scheme.size());
      out.set_digest(reply->image().digest());
      out.set_config(reply->image().config());
      out.set_ref(ref);
      done(std::move(out));
    });
  }

  void resolve_source_meta(gw::ResolveSourceMetaRequest r, int frame,
                           continuation<gw::ResolveSourceMetaResponse> done) override {
    if (auto s = refuse_late(); !s.ok()) return done(std::move(s).error());
    auto policies = policies_with(r.sourcepolicies());
    if (!policies.ok()) return done(std::move(policies).error());
    if (o_.request.sourcepolicysession().empty()) {
      if (auto s = solver::apply(*policies, *r.mutable_source()); !s.ok())
        return done(std::move(s).error().with_context("error evaluating the source policy"));
      return resolve_now(std::move(r), frame, std::move(done));
    }
    reviewed_source subject{r.source(), r.has_platform() ? r.platform() : default_platform()};
    review_source(*std::move(policies), std::move(subject), policy_questions_of(frame),
                  [this, r = std::move(r), frame, done](result<pb::SourceOp> source) mutable {
                    if (!source.ok()) return done(std::move(source).error());
                    *r.mutable_source() = *std::move(source);
                    resolve_now(std::move(r), frame, std::move(done));
                  });
  }

  /// Of a source that policies have seen.
  void resolve_now(gw::ResolveSourceMetaRequest r, int frame, continuation<gw::ResolveSourceMetaResponse> done) {
    auto worker = o_.peers.worker();
    if (!worker) return done(from_caf(peer_down(peers::worker_name)));
    auto name = r.logname().empty() ? "resolve " + r.source().identifier() : r.logname();
    auto shown = open_task(name);
    self_->request(worker, caf::infinite, sessions(), r, progress_handle())
        .then(
            [this, shown, frame, asked = r, done](gw::ResolveSourceMetaResponse& reply) {
              close_task(shown, "");
              attestations_.looked_at(frame, asked, reply);
              done(std::move(reply));
            },
            [this, shown, done](caf::error& e) {
              auto failure = from_caf(e);
              close_task(shown, failure.message);
              done(std::move(failure));
            });
  }

  void read_file(gw::ReadFileRequest r, continuation<gw::ReadFileResponse> done) override {
    look<gw::ReadFileResponse>(r.ref(), r, std::move(done));
  }
  void read_dir(gw::ReadDirRequest r, continuation<gw::ReadDirResponse> done) override {
    look<gw::ReadDirResponse>(r.ref(), r, std::move(done));
  }
  void stat_file(gw::StatFileRequest r, continuation<gw::StatFileResponse> done) override {
    look<gw::StatFileResponse>(r.ref(), r, std::move(done));
  }

  void warn(gw::WarnRequest r, continuation<gw::WarnResponse> done) override {
    ctl::StatusResponse out;
    auto& w = *out.add_warnings();
    w.set_vertex(r.digest());
    w.set_level(r.level());
    w.set_short_(r.short_());
    *w.mutable_detail() = r.detail();
    w.set_url(r.url());
    if (r.has_info()) *w.mutable_info() = r.info();
    *w.mutable_ranges() = r.ranges();
    log_.add(std::move(out));
    done(gw::WarnResponse{});
  }

 private:
  template <class Reply>
  caf::result<Reply> ask(std::function<void(continuation<Reply>)> question) {
    auto promise = self_->make_response_promise<Reply>();
    auto entry = open_promises_++;
    unanswered_[entry] = [promise](const error& e) mutable { promise.deliver(to_caf(e)); };
    question([this, entry, promise](result<Reply> reply) mutable {
      if (unanswered_.erase(entry) == 0) return;
      answer(promise, std::move(reply));
    });
    return promise;
  }

  caf::result<gw::SolveResponse> ask_solve(int frame, gw::SolveRequest& r) {
    return ask<gw::SolveResponse>([&](auto done) {
      when_ready([this, frame, r = std::move(r), done]() mutable { solve(std::move(r), frame, done); });
    });
  }
  caf::result<gw::ResolveImageConfigResponse> ask_image_config(int frame, gw::ResolveImageConfigRequest& r) {
    return ask<gw::ResolveImageConfigResponse>([&](auto done) {
      when_ready([this, frame, r = std::move(r), done]() mutable { resolve_image_config(std::move(r), frame, done); });
    });
  }
  caf::result<gw::ResolveSourceMetaResponse> ask_source_meta(int frame, gw::ResolveSourceMetaRequest& r) {
    return ask<gw::ResolveSourceMetaResponse>([&](auto done) {
      when_ready([this, frame, r = std::move(r), done]() mutable { resolve_source_meta(std::move(r), frame, done); });
    });
  }

  /// Clients may come before everything is checked; they wait for that.
  void when_ready(std::function<void()> work) {
    if (phase_ == phase::created || phase_ == phase::checking) {
      early_.push_back(std::move(work));
    } else {
      work();
    }
  }

  status refuse_late() const {
    if (phase_ == phase::finished || phase_ == phase::recording)
      return make_error(errc::failed_precondition, "the build has ended");
    return {};
  }

  session_group sessions() const {
    session_group out;
    if (!o_.request.session().empty()) out.ids.push_back(o_.request.session());
    return out;
  }

  progress_actor progress_handle() const { return handle_of<progress_actor>(self_); }

  gw::PongResponse ping() {
    gw::PongResponse out;
    auto add = [](auto& caps, std::string_view id) {
      auto& cap = *caps.Add();
      cap.set_id(std::string(id));
      cap.set_enabled(true);
    };
    for (auto id : solver::gateway_capabilities()) add(*out.mutable_frontendapicaps(), id);
    for (auto id : solver::llb_capabilities()) add(*out.mutable_llbcaps(), id);
    auto& worker = *out.add_workers();
    worker.set_id(worker_record_.id());
    *worker.mutable_labels() = worker_record_.labels();
    *worker.mutable_platforms() = worker_record_.platforms();
    return out;
  }

  // Results.

  std::string add_ref(const pb::Definition& definition, std::vector<solver::source_policy> policies, int frame) {
    auto id = new_id();
    attestations_.requests().add_ref(frame, id);
    refs_[id].definition = definition;
    refs_[id].policies = std::move(policies);
    return id;
  }

  std::function<const pb::Definition*(const std::string&)> definitions() const {
    return [this](const std::string& id) -> const pb::Definition* {
      auto found = refs_.find(id);
      return found == refs_.end() ? nullptr : &found->second.definition;
    };
  }

  /// The request's policy first, then those of one question.
  result<std::vector<solver::source_policy>> policies_with(
      const google::protobuf::RepeatedPtrField<solver::source_policy>& more) const {
    std::vector<solver::source_policy> out;
    if (o_.request.sourcepolicy().rules_size() > 0) out.push_back(o_.request.sourcepolicy());
    for (const auto& policy : more) {
      KILN_CHECK(solver::validate(policy));
      out.push_back(policy);
    }
    return out;
  }

  /// The result behind a ref of this build; "" is scratch.
  void evaluate(const std::string& id, continuation<vertex_result> done) {
    if (id.empty()) return done(vertex_result{});
    auto found = refs_.find(id);
    if (found == refs_.end()) return done(make_error(errc::unknown, "no such ref: " + id));
    auto& ref = found->second;
    if (ref.value) return done(*ref.value);
    if (auto s = refuse_late(); !s.ok()) return done(std::move(s).error());
    ref.waiters.push_back(std::move(done));
    if (!std::exchange(ref.asked, true)) load(id, ref);
  }

  void settle(const std::string& id, result<vertex_result> value) {
    auto& ref = refs_[id];
    if (ref.value) return;
    ref.value = std::move(value);
    auto settled = *ref.value;
    for (auto& w : std::exchange(ref.waiters, {})) w(settled);
  }

  /// Platforms of sources that name none.
  pb::Platform default_platform() const {
    pb::Platform out;
    to_proto(platforms_.empty() ? host_platform() : platforms_.front(), out);
    return out;
  }

  policy_questions policy_questions_of(int frame) {
    policy_questions out;
    out.check = [this](policy::CheckPolicyRequest request, continuation<policy::CheckPolicyResponse> done) {
      jobs_.run<policy::CheckPolicyResponse>(
          self_, *o_.io,
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

  void load(const std::string& id, build_ref& ref) {
    if (o_.request.sourcepolicysession().empty()) return load_with(id, [&ref](pb::Op& op) -> status {
      auto s = solver::apply(ref.policies, *op.mutable_source());
      if (!s.ok()) return std::move(s).error().with_context("error evaluating the source policy");
      return {};
    });
    // The client is asked about every source first.
    struct reviews {
      std::map<std::string, pb::SourceOp> passed;
      std::size_t missing = 1;
      std::optional<error> refused;
    };
    auto all = std::make_shared<reviews>();
    auto one_less = [this, id, all] {
      if (--all->missing > 0) return;
      if (all->refused) return settle(id, std::move(*all->refused).with_context("failed to load LLB"));
      load_with(id, [all](pb::Op& op) -> status {
        if (auto found = all->passed.find(source_key(op.source())); found != all->passed.end())
          *op.mutable_source() = found->second;
        return {};
      });
    };
    auto policies = ref.policies;
    std::set<std::string> seen;
    for (const auto& bytes : ref.definition.def()) {
      pb::Op op;
      if (!op.ParseFromString(bytes) || !op.has_source() || !seen.insert(source_key(op.source())).second) continue;
      ++all->missing;
      reviewed_source subject{op.source(), op.has_platform() ? op.platform() : default_platform()};
      review_source(policies, std::move(subject), policy_questions_of(0),
                    [all, one_less, key = source_key(op.source())](result<pb::SourceOp> source) {
                      if (source.ok()) all->passed[key] = *std::move(source);
                      else if (!all->refused) all->refused = std::move(source).error();
                      one_less();
                    });
    }
    one_less();
  }

  void load_with(const std::string& id, std::function<status(pb::Op&)> mutate) {
    auto& ref = refs_[id];
    solver::load_options options;
    options.granted = &granted_;
    if (!platforms_.empty()) options.default_platform = platforms_.front();
    options.mutate = std::move(mutate);
    auto g = solver::load(ref.definition, options);
    if (!g.ok()) return settle(id, std::move(g).error().with_context("failed to load LLB"));
    auto spec = to_spec(*g, "");
    attestations_.loaded(id, ref.definition, spec);
    auto caches = solver::caches_to_prune(*g);
    if (caches.empty()) return place(id, std::move(spec));
    auto worker = o_.peers.worker();
    if (!worker) return settle(id, from_caf(peer_down(peers::worker_name)));
    self_->request(worker, caf::infinite, prune_caches{std::move(caches)})
        .then([this, id, spec](bool) mutable { place(id, std::move(spec)); },
              [this, id](caf::error& e) { settle(id, from_caf(e)); });
  }

  void place(const std::string& id, graph_spec spec) {
    auto wanted = refs_[id].imports;
    wanted.insert(wanted.end(), own_imports_.begin(), own_imports_.end());
    when_imported(wanted, [this, id, wanted, spec = std::move(spec)]() mutable {
      for (const auto& name : wanted)
        if (const auto& import = imports_.at(name); !import.id.empty()) spec.imports.push_back(import.id);
      place_now(id, std::move(spec));
    });
  }

  void place_now(const std::string& id, graph_spec spec) {
    auto graph = o_.peers.build_graph();
    if (!graph) return settle(id, from_caf(peer_down(peers::build_graph_name)));
    auto index = spec.root.index;
    self_->request(graph, caf::infinite, load_atom::value, std::move(spec), progress_handle(), o_.request.session())
        .then(
            [this, id, index](const vertex_actor& root) {
              self_->request(root, caf::infinite, result_atom::value, index)
                  .then([this, id](vertex_result& value) { settle(id, std::move(value)); },
                        [this, id](caf::error& e) { settle(id, from_caf(e)); });
            },
            [this, id](caf::error& e) { settle(id, from_caf(e)); });
  }

  void evaluate_refs(std::vector<std::string> ids, continuation<std::vector<vertex_result>> done) {
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

  /// What a container needs of this build: its refs' records, its session, what it may do.
  void lend(container_inputs wanted, continuation<container_inputs> done) {
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

  template <class Reply, class Request>
  void look(const std::string& ref, Request request, continuation<Reply> done) {
    if (ref.empty()) return done(make_error(errc::unknown, "empty ref: " + ref));
    evaluate(ref, [this, request, done](result<vertex_result> value) {
      if (!value.ok()) return done(std::move(value).error());
      auto worker = o_.peers.worker();
      if (!worker) return done(from_caf(peer_down(peers::worker_name)));
      self_->request(worker, caf::infinite, ref_scope{value->ref, sessions()}, request)
          .then([done](Reply& reply) { done(std::move(reply)); }, [done](caf::error& e) { done(from_caf(e)); });
    });
  }

  static std::vector<std::string> ids_of(const gw::Result& r) {
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

  /// Whoever gets a ref may build on it by its definition.
  void add_definitions(gw::Result& r) const {
    auto add = [this](gw::Ref& ref) {
      if (ref.has_def()) return;
      if (auto found = refs_.find(ref.id()); found != refs_.end()) *ref.mutable_def() = found->second.definition;
    };
    if (r.has_ref()) add(*r.mutable_ref());
    if (r.has_refs())
      for (auto& [key, ref] : *r.mutable_refs()->mutable_refs()) add(ref);
  }

  static void to_deprecated(gw::Result& r) {
    if (r.has_refs()) {
      gw::RefMapDeprecated old;
      for (const auto& [key, ref] : r.refs().refs()) (*old.mutable_refs())[key] = ref.id();
      *r.mutable_refsdeprecated() = std::move(old);
    } else if (r.has_ref()) {
      r.set_refdeprecated(std::string(r.ref().id()));
    }
  }

  // Cache imports. They load in the background; definitions wait for them before they are placed.

  std::vector<std::string> begin_imports(const gw::SolveRequest& r) {
    std::vector<std::string> names;
    for (const auto& import : r.cacheimports())
      names.push_back(begin_import({import.type(), {import.attrs().begin(), import.attrs().end()}}));
    return names;
  }

  /// Equal imports are one; its name. An import that cannot be had is shown and done without.
  std::string begin_import(cache_entry entry) {
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

  void when_imported(std::vector<std::string> names, std::function<void()> work) {
    bool open = std::any_of(names.begin(), names.end(), [&](const auto& n) { return !imports_.at(n).ended; });
    if (!open) return work();
    waiting_for_imports_.push_back([this, names = std::move(names), work = std::move(work)]() mutable {
      when_imported(std::move(names), std::move(work));
    });
  }

  // Frontends.

  void run_frontend(std::string name, std::map<std::string, std::string> options,
                    std::map<std::string, pb::Definition> inputs, int parent, continuation<gw::Result> done) {
    auto& requests = attestations_.requests();
    if (requests.depth(parent) >= configs::solving::sub_solve_depth_max)
      return done(make_error(errc::resource_exhausted, "frontends call each other too deeply"));
    shorten_frontend(name, options);
    std::shared_ptr<frontends::frontend> frontend = o_.frontend ? o_.frontend(name) : nullptr;
    if (!frontend) return done(make_error(errc::not_found, "invalid frontend: " + name));
    auto frame = requests.open(parent, {name, options, inputs});
    auto host = std::make_shared<bridge_host>(channel_, platforms_, o_.request.session(), frame);
    frontends::frontend_request request{std::move(options), std::move(inputs)};
    jobs_.run<gw::Result>(
        self_, *o_.frontend_threads,
        [frontend, host, request = std::move(request)]() { return frontend->solve(*host, request); },
        std::move(done));
  }

  // The build's own way.

  void set_phase(phase p) { phase_ = p; }

  caf::result<ctl::SolveResponse> start() {
    if (phase_ != phase::created) return to_caf(make_error(errc::failed_precondition, "build was started before"));
    answer_ = self_->make_response_promise<ctl::SolveResponse>();
    auto promise = *answer_;
    set_phase(phase::checking);
    created_ns_ = unix_now_ns();
    check();
    return promise;
  }

  void check() {
    if (auto s = prepare(o_.request); !s.ok()) return end(std::move(s).error());
    if (auto s = attestations_.begin(o_.request, created_ns_); !s.ok()) return end(std::move(s).error());
    std::vector<std::string> requested(o_.request.entitlements().begin(), o_.request.entitlements().end());
    auto granted = solver::entitlements::grant(requested, o_.allowed_entitlements);
    if (!granted.ok()) return end(std::move(granted).error());
    granted_ = *std::move(granted);
    auto worker = o_.peers.worker();
    if (!worker) return end(from_caf(peer_down(peers::worker_name)));
    self_->request(worker, caf::infinite, describe_atom::value)
        .then(
            [this](types::WorkerRecord& record) {
              worker_record_ = std::move(record);
              for (const auto& p : worker_record_.platforms()) platforms_.push_back(from_proto(p));
              // Type and attributes of every exporter, before anything runs.
              name_exporters([this] { check_cache_exports(0); });
            },
            [this](caf::error& e) { end(from_caf(e)); });
  }

  export_spec spec_of(int index) const {
    const auto& e = o_.request.exporters(index);
    return {e.type(), {e.attrs().begin(), e.attrs().end()}, index};
  }

  static cache_entry entry_of(const ctl::CacheOptionsEntry& e) {
    return {e.type(), {e.attrs().begin(), e.attrs().end()}};
  }

  void check_cache_exports(int index) {
    if (phase_ != phase::checking) return;
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

  void begin() {
    set_phase(phase::solving);
    recorded_ = !o_.request.internal();
    publish(ctl::STARTED, std::nullopt, {});
    for (const auto& import : o_.request.cache().imports()) own_imports_.push_back(begin_import(entry_of(import)));
    for (auto& work : std::exchange(early_, {})) work();
    const auto& r = o_.request;
    if (r.has_definition() && (r.definition().def_size() > 0 || r.frontend().empty())) {
      gw::Result only;
      // An empty definition is scratch.
      only.mutable_ref()->set_id(r.definition().def_size() > 0 ? add_ref(r.definition(), *policies_with({}), 0) : "");
      return solved(std::move(only));
    }
    if (r.frontend().empty()) return;  // a gateway client drives us and will Return
    std::map<std::string, std::string> options(r.frontendattrs().begin(), r.frontendattrs().end());
    std::map<std::string, pb::Definition> inputs(r.frontendinputs().begin(), r.frontendinputs().end());
    run_frontend(r.frontend(), std::move(options), std::move(inputs), 0, [this](result<gw::Result> outcome) {
      if (!outcome.ok()) return end(std::move(outcome).error());
      solved(*std::move(outcome));
    });
  }

  caf::result<gw::ReturnResponse> take_return(gw::ReturnRequest& r) {
    bool driven = o_.request.frontend().empty() && !o_.request.has_definition();
    if (!driven) return to_caf(make_error(errc::failed_precondition, "the build is not driven by a gateway client"));
    if (phase_ != phase::solving)
      return to_caf(make_error(errc::already_exists, "the result was returned before"));
    if (r.has_error()) {
      end(from_rpc_status(r.error()));
      return gw::ReturnResponse{};
    }
    for (const auto& id : ids_of(r.result()))
      if (!id.empty() && !refs_.contains(id))
        return to_caf(make_error(errc::unknown, "return reference " + id + " not found"));
    solved(std::move(*r.mutable_result()));
    return gw::ReturnResponse{};
  }

  void solved(gw::Result r) {
    if (phase_ != phase::solving) return;
    set_phase(phase::evaluating);
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
    for (const auto& [key, list] : final_.attestations)
      for (const auto& [a, id] : list) ids.push_back(id);
    evaluate_refs(std::move(ids), [this](result<std::vector<vertex_result>> all) {
      if (!all.ok()) return end(std::move(all).error());
      std::vector<vertex_result> values(all->begin(), all->begin() + static_cast<std::ptrdiff_t>(final_.refs.size()));
      auto rest = all->begin() + static_cast<std::ptrdiff_t>(final_.refs.size());
      for (auto& [key, list] : final_.attestations)
        for (auto& [a, id] : list) a.ref = (rest++)->ref;
      if (cache_exports_.empty() && !attestations_.wants_provenance()) return attest(std::move(values));
      gather_trail(std::move(values));
    });
  }

  /// The parts of the result as attestations know them.
  std::vector<attested_part> attested_parts() const {
    std::vector<attested_part> out;
    for (const auto& [id, ref] : final_.refs) {
      attested_part part{id, ref, platform_of_part(id)};
      if (id.empty() && final_.platforms.size() == 1) part.id = final_.platforms.front().first;
      if (part.id.empty()) part.id = format_platform(normalize(part.platform));
      out.push_back(std::move(part));
    }
    return out;
  }

  /// Gathers what the frontend and the daemon have to say about each part.
  void attest(std::vector<vertex_result> values) {
    auto parts = attested_parts();
    build_attestations::build_view view;
    view.definition = definitions();
    view.record_of = [this](const std::vector<std::string>& keys) -> std::string {
      for (const auto& key : keys)
        if (o_.store)
          for (const auto& found : o_.store->keys().results(key)) return found.id;
      return {};
    };
    view.builder = platforms_.empty() ? host_platform() : platforms_.front();
    auto own = attestations_.make(parts, trail_.steps, view);
    if (!own.ok()) return end(std::move(own).error());
    for (std::size_t i = 0; i < parts.size(); ++i) {
      auto& ready = final_.ready.emplace_back();
      if (auto given = final_.attestations.find(parts[i].id); given != final_.attestations.end())
        for (const auto& [a, id] : given->second) ready.push_back(a);
      for (auto& a : (*own)[i]) ready.push_back(std::move(a));
    }
    if (!o_.request.enablesessionexporter()) return run_exports(std::move(values));
    ask_for_exporters(std::move(values));
  }

  /// The client may want more exported, now that there is a result.
  void ask_for_exporters(std::vector<vertex_result> values) {
    using specs = std::vector<export_spec>;
    std::vector<std::string> records;
    for (const auto& v : values) records.push_back(v.ref);
    jobs_.run<specs>(
        self_, *o_.io,
        [directory = o_.sessions, session = o_.request.session(), metadata = final_.metadata, records,
         first = o_.request.exporters_size(), stop = channel_->stop_token()] {
          return find_session_exporters(directory, session, metadata, records, first, stop);
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

  /// Checks the exporters that have no name yet.
  void name_exporters(std::function<void()> then) {
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

  /// What the steps of this build came to, for exporting its cache.
  void gather_trail(std::vector<vertex_result> values) {
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

  platform platform_of_part(const std::string& id) const {
    const auto& platforms = final_.platforms;
    auto known = std::find_if(platforms.begin(), platforms.end(), [&](const auto& p) { return p.first == id; });
    if (known != platforms.end()) return known->second;
    if (!final_.multi && platforms.size() == 1) return platforms.front().second;
    if (auto parsed = parse_platform(id); !id.empty() && parsed.ok()) return *parsed;
    return platforms_.empty() ? host_platform() : platforms_.front();
  }

  export_request request_of(int index, const std::vector<vertex_result>& values) const {
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

  /// All exporters in parallel; when all have committed, their second phases in parallel.
  void run_exports(std::vector<vertex_result> values) {
    if (phase_ != phase::evaluating) return;
    set_phase(phase::exporting);
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
                if (--open_exports_ == 0) run_finalizers();
              },
              [this, shown](caf::error& e) { export_failed(shown, e); });
    }
  }

  void warn_of(const std::vector<std::string>& texts, const std::string& vertex) {
    ctl::StatusResponse out;
    for (const auto& text : texts) {
      auto& w = *out.add_warnings();
      w.set_vertex(vertex);
      w.set_level(1);
      w.set_short_(text);
    }
    if (out.warnings_size() > 0) log_.add(std::move(out));
  }

  void export_failed(const ctl::Vertex& shown, const caf::error& e) {
    auto failure = from_caf(e);
    close_task(shown, failure.message);
    end(std::move(failure));
  }

  void run_finalizers() {
    if (phase_ != phase::exporting) return;
    set_phase(phase::pushing);
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

  /// Beside the second phases: the exporters have made the layers by now.
  void run_cache_exports() {
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

  void succeed() {
    ctl::SolveResponse response;
    auto& out = *response.mutable_exporterresponse();
    for (const auto& e : exports_)
      for (const auto& [key, value] : e.response) out[key] = value;
    for (const auto& [key, value] : final_.metadata)
      if (key.starts_with("frontend.")) out[key] = value;
    for (const auto& [key, value] : cache_response_)
      if (key.starts_with("cache.")) out[key] = value;
    if (!o_.request.enablesessionexporter()) return end(std::move(response));
    jobs_.run<bool>(
        self_, *o_.io,
        [directory = o_.sessions, session = o_.request.session(),
         told = std::map<std::string, std::string>(out.begin(), out.end()),
         stop = channel_->stop_token()]() -> result<bool> {
          KILN_CHECK(finalize_session_export(directory, session, told, stop));
          return true;
        },
        [this, response = std::move(response)](result<bool> agreed) mutable {
          if (agreed.ok()) return end(std::move(response));
          end(std::move(agreed).error());
        });
  }

  /// The build is over, well or badly: stops what still runs, tells watchers, keeps the record.
  void end(result<ctl::SolveResponse> outcome) {
    if (phase_ == phase::finished || phase_ == phase::recording) return;
    set_phase(phase::recording);
    channel_->close();
    if (auto graph = o_.peers.build_graph()) self_->send(graph, release_atom::value, progress_handle());
    auto gone = outcome.ok() ? make_error(errc::cancelled, "the build has ended") : outcome.error();
    for (auto& [id, r] : refs_)
      for (auto& w : std::exchange(r.waiters, {})) w(gone);
    for (auto& [id, refuse] : std::exchange(unanswered_, {})) refuse(gone);
    log_.close();
    auto deliver = [this, outcome] {
      set_phase(phase::finished);
      if (answer_) answer(*answer_, outcome);
      answer_.reset();
    };
    if (!recorded_ || !o_.store) {
      if (recorded_) publish(ctl::COMPLETE, outcome, {});
      return deliver();
    }
    // The log, and what clients may want to know of a failure beyond its text.
    std::vector<std::pair<std::string, std::string>> documents{
        {"application/vnd.buildkit.status.v0", log_.encode()}};
    if (!outcome.ok() && !outcome.error().details.empty()) {
      google::rpc::Status whole;
      to_rpc_status(outcome.error(), whole);
      documents.emplace_back("application/vnd.googeapis.google.rpc.status+proto", whole.SerializeAsString());
    }
    using descriptors = std::vector<ctl::Descriptor>;
    jobs_.run<descriptors>(
        self_, *o_.io,
        [store = o_.store, ref = o_.request.ref(), documents = std::move(documents)]() -> result<descriptors> {
          descriptors out;
          for (const auto& [type, bytes] : documents) {
            KILN_TRY(auto blob, store->blobs().put(bytes));
            // Not a record's blob: the label keeps `prune --all` from taking it.
            KILN_CHECK(store->blobs().set_labels(blob, {{"kiln.keep.history", ref}}));
            auto& d = out.emplace_back();
            d.set_media_type(type);
            d.set_digest(blob.str());
            d.set_size(static_cast<std::int64_t>(bytes.size()));
          }
          return out;
        },
        [this, outcome, deliver](result<descriptors> kept) {
          if (!kept.ok()) spdlog::warn("log of build {} not kept: {}", o_.request.ref(), kept.error().message);
          publish(ctl::COMPLETE, outcome, kept.ok() ? *kept : descriptors{});
          deliver();
        });
  }

  void publish(ctl::BuildHistoryEventType type, const std::optional<result<ctl::SolveResponse>>& outcome,
               const std::vector<ctl::Descriptor>& documents) {
    if (!recorded_) return;
    auto history = o_.peers.history();
    if (!history) return;
    ctl::BuildHistoryEvent event;
    event.set_type(type);
    auto& record = *event.mutable_record();
    record.set_ref(o_.request.ref());
    record.set_frontend(o_.request.frontend());
    *record.mutable_frontendattrs() = o_.request.frontendattrs();
    *record.mutable_exporters() = o_.request.exporters();
    set_time(*record.mutable_createdat(), created_ns_);
    if (outcome) {
      set_time(*record.mutable_completedat(), unix_now_ns());
      record.set_numtotalsteps(log_.total_steps());
      record.set_numcompletedsteps(log_.completed_steps());
      record.set_numcachedsteps(log_.cached_steps());
      record.set_numwarnings(log_.warnings());
      if (outcome->ok()) {
        *record.mutable_exporterresponse() = (*outcome)->exporterresponse();
      } else {
        to_rpc_status(outcome->error(), *record.mutable_error());
      }
      std::int64_t n = 0;
      for (const auto& e : exports_)
        for (const auto& object : e.results) {
          ctl::Descriptor d;
          d.set_media_type(object.media_type);
          d.set_digest(object.digest);
          d.set_size(object.size);
          for (const auto& [key, value] : object.annotations) (*d.mutable_annotations())[key] = value;
          if (n == 0) *record.mutable_result()->mutable_resultdeprecated() = d;
          (*record.mutable_result()->mutable_results())[n++] = d;
        }
    }
    if (!documents.empty()) *record.mutable_logs() = documents.front();
    if (documents.size() > 1) {
      *record.mutable_externalerror() = documents[1];
      record.mutable_error()->clear_details();
    }
    self_->send(history, std::move(event));
  }

  // Progress of the build's own work.

  std::string task_digest(const std::string& name) const {
    return sha256(o_.request.ref() + "\n" + o_.request.session() + "\n" + name).str();
  }

  ctl::Vertex open_task(const std::string& name, std::string digest = "") {
    ctl::Vertex v;
    v.set_digest(digest.empty() ? task_digest(name + "\n" + std::to_string(++tasks_)) : std::move(digest));
    v.set_name(name);
    set_time(*v.mutable_started(), unix_now_ns());
    ctl::StatusResponse out;
    *out.add_vertexes() = v;
    log_.add(std::move(out));
    return v;
  }

  void close_task(ctl::Vertex v, const std::string& error) {
    set_time(*v.mutable_completed(), unix_now_ns());
    v.set_error(error);
    ctl::StatusResponse out;
    *out.add_vertexes() = std::move(v);
    log_.add(std::move(out));
  }

  build_impl::pointer self_;
  build_options o_;
  build_attestations attestations_{o_.provenance};
  std::shared_ptr<bridge_channel> channel_;
  job_runner jobs_;
  build_log log_;
  phase phase_ = phase::created;
  std::optional<caf::typed_response_promise<ctl::SolveResponse>> answer_;
  std::map<std::uint64_t, std::function<void(const error&)>> unanswered_;
  std::uint64_t open_promises_ = 0;
  std::vector<std::function<void()>> early_;

  solver::entitlements granted_;
  types::WorkerRecord worker_record_;
  std::vector<platform> platforms_;  // the worker's, default first
  std::map<std::string, build_ref> refs_;
  final_result final_;
  std::map<std::string, build_import> imports_;  // by what cache_import_id() calls them
  std::vector<std::string> own_imports_;         // of the request itself: for every definition
  std::vector<std::function<void()>> waiting_for_imports_;
  std::vector<cache_export_kind> cache_exports_;
  cache_trail trail_;
  std::map<std::string, std::string> cache_response_;
  std::vector<std::string> exporter_names_;
  std::vector<export_request> export_requests_;
  std::vector<export_reply> exports_;
  int open_exports_ = 0;
  int tasks_ = 0;
  bool recorded_ = false;
  std::int64_t created_ns_ = 0;
};

}  // namespace

build_impl::behavior_type build(build_impl::stateful_pointer<actor_state> self, build_options options) {
  return self->state.hold<build_state>("build", self, std::move(options)).behavior();
}

}  // namespace kiln::actors
