#include "actors/build_state.hpp"

#include "actors/worker_devices.hpp"
#include "configs/solving.hpp"
#include "messages/rpc_status.hpp"
#include "solver/caps.hpp"

namespace kiln::actors {

build_state::~build_state() {
  channel_->close();
  auto gone = ending_.for_waiters();
  // Also the history is to know how it went; nothing below ends the build once more.
  if (phase_ != build_phase::finished && recorded_) publish(ctl::COMPLETE, gone, {});
  set_phase(build_phase::finished);
  if (answer_) answer_->deliver(to_caf(gone));
  for (auto& [id, refuse] : std::exchange(unanswered_, {})) refuse(gone);
  for (auto& [id, r] : refs_)
    for (auto& w : std::exchange(r.waiters, {})) w(gone);
  log_.close();
}

build_impl::behavior_type build_state::behavior() {
  ending_.watch(self_, "build " + o_.request.ref());
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

void build_state::solve(gw::SolveRequest r, int frame, continuation<gw::SolveResponse> done) {
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
    if (auto s = room_for(r.definition()); !s.ok()) return done(std::move(s).error());
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

void build_state::resolve_image_config(gw::ResolveImageConfigRequest r, int frame,
                          continuation<gw::ResolveImageConfigResponse> done) {
  gw::ResolveSourceMetaRequest meta;
  auto& source = *meta.mutable_source();
  if (r.resolvertype() != 0 && r.resolvertype() != 1)
    return done(make_error(errc::invalid_argument, "ResolverType: unknown " + std::to_string(r.resolvertype())));
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

void build_state::resolve_source_meta(gw::ResolveSourceMetaRequest r, int frame,
                         continuation<gw::ResolveSourceMetaResponse> done) {
  if (auto s = refuse_late(); !s.ok()) return done(std::move(s).error());
  auto policies = policies_with(r.sourcepolicies());
  if (!policies.ok()) return done(std::move(policies).error());
  if (o_.request.sourcepolicysession().empty()) {
    if (auto s = apply_policies(*policies, *r.mutable_source()); !s.ok()) return done(std::move(s).error());
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

void build_state::resolve_now(gw::ResolveSourceMetaRequest r, int frame, continuation<gw::ResolveSourceMetaResponse> done) {
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

void build_state::read_file(gw::ReadFileRequest r, continuation<gw::ReadFileResponse> done) {
  look<gw::ReadFileResponse>(r.ref(), r, std::move(done));
}

void build_state::read_dir(gw::ReadDirRequest r, continuation<gw::ReadDirResponse> done) {
  look<gw::ReadDirResponse>(r.ref(), r, std::move(done));
}

void build_state::stat_file(gw::StatFileRequest r, continuation<gw::StatFileResponse> done) {
  look<gw::StatFileResponse>(r.ref(), r, std::move(done));
}

void build_state::warn(gw::WarnRequest r, continuation<gw::WarnResponse> done) {
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

caf::result<gw::SolveResponse> build_state::ask_solve(int frame, gw::SolveRequest& r) {
  return ask<gw::SolveResponse>([&](auto done) {
    when_ready([this, frame, r = std::move(r), done]() mutable { solve(std::move(r), frame, done); });
  });
}

caf::result<gw::ResolveImageConfigResponse> build_state::ask_image_config(int frame, gw::ResolveImageConfigRequest& r) {
  return ask<gw::ResolveImageConfigResponse>([&](auto done) {
    when_ready([this, frame, r = std::move(r), done]() mutable { resolve_image_config(std::move(r), frame, done); });
  });
}

caf::result<gw::ResolveSourceMetaResponse> build_state::ask_source_meta(int frame, gw::ResolveSourceMetaRequest& r) {
  return ask<gw::ResolveSourceMetaResponse>([&](auto done) {
    when_ready([this, frame, r = std::move(r), done]() mutable { resolve_source_meta(std::move(r), frame, done); });
  });
}

void build_state::when_ready(std::function<void()> work) {
  if (phase_ == build_phase::created || phase_ == build_phase::checking) {
    early_.push_back(std::move(work));
  } else {
    work();
  }
}

status build_state::refuse_late() const {
  if (phase_ == build_phase::finished || phase_ == build_phase::recording)
    return make_error(errc::failed_precondition, "the build has ended");
  return {};
}

session_group build_state::sessions() const {
  session_group out;
  if (!o_.request.session().empty()) out.ids.push_back(o_.request.session());
  return out;
}

gw::PongResponse build_state::ping() {
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

void build_state::run_frontend(std::string name, std::map<std::string, std::string> options,
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
      self_, o_.frontend_threads->at(static_cast<std::size_t>(requests.depth(parent))),
      [frontend, host, request = std::move(request)]() { return frontend->solve(*host, request); },
      std::move(done));
}

caf::result<ctl::SolveResponse> build_state::start() {
  if (phase_ != build_phase::created) return to_caf(make_error(errc::failed_precondition, "build was started before"));
  answer_ = self_->make_response_promise<ctl::SolveResponse>();
  auto promise = *answer_;
  set_phase(build_phase::checking);
  created_ns_ = unix_now_ns();
  check();
  return promise;
}

void build_state::check() {
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
            devices_ = devices_of(worker_record_);
            for (const auto& p : worker_record_.platforms()) platforms_.push_back(from_proto(p));
            // Type and attributes of every exporter, before anything runs.
            name_exporters([this] { check_cache_exports(0); });
          },
          [this](caf::error& e) { end(from_caf(e)); });
}

void build_state::begin() {
  set_phase(build_phase::solving);
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

caf::result<gw::ReturnResponse> build_state::take_return(gw::ReturnRequest& r) {
  bool driven = o_.request.frontend().empty() && !o_.request.has_definition();
  if (!driven) return to_caf(make_error(errc::failed_precondition, "the build is not driven by a gateway client"));
  if (phase_ != build_phase::solving)
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

build_impl::behavior_type build(build_impl::stateful_pointer<actor_state> self, build_options options) {
  return self->state.hold<build_state>("build", self, std::move(options)).behavior();
}

}  // namespace kiln::actors
