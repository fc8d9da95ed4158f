#include "actors/build/build.hpp"

#include <optional>
#include <type_traits>
#include <utility>

#include "actors/build/build_context.hpp"
#include "actors/build/build_recorder.hpp"
#include "actors/build/build_request.hpp"
#include "actors/build/build_sources.hpp"
#include "actors/build/export_pipeline.hpp"
#include "actors/build/import_set.hpp"
#include "actors/build/llb_bridge.hpp"
#include "actors/build/open_questions.hpp"
#include "actors/build/ref_table.hpp"
#include "actors/build/result_attester.hpp"
#include "actors/ending.hpp"
#include "actors/failure_stack.hpp"
#include "actors/progress.hpp"
#include "actors/worker/worker_devices.hpp"
#include "configs/solving.hpp"
#include "messages/rpc_status.hpp"
#include "messages/told_code.hpp"

namespace kiln::actors {

namespace {

/// What has happened so far: nothing; start() has come, and the request is being looked at; frontends and
/// clients may ask and be answered; there is a result, which is finished and leaves; the history is told; the
/// client is answered.
enum class build_phase { created, checking, solving, finishing, recording, finished };

class build_state {
 public:
  build_state(build_impl::pointer self, build_options options) : b_(self, std::move(options)) {
    b_.failed = [this](error why, source_location where) { end(std::move(why), where); };
  }
  ~build_state();
  build_impl::behavior_type behavior();

 private:
  // The way from Solve to its answer.
  caf::result<ctl::SolveResponse> start();
  void check();
  void begin();
  void tell_wait();
  void waited(const std::string& error);
  caf::result<gw::ReturnResponse> take_return(gw::ReturnRequest& r);
  void solved(gw::Result r);
  /// The build is over, well or badly: stops what still runs, tells watchers, keeps the record.
  void end(result<ctl::SolveResponse> outcome, source_location where = source_location::current());
  /// No answer comes any more to whoever waits for one.
  void refuse_all(const error& why);

  /// A frontend's or client's question, answered by `question(done)` once the request is checked.
  template <class Reply>
  caf::result<Reply> ask(std::function<void(continuation<Reply>)> question) {
    return questions_.ask<Reply>(b_.self, [&](continuation<Reply> answered) {
      continuation<Reply> done = [answered = std::move(answered)](result<Reply> reply) {
        // Who asks from within the daemon goes by codes.
        constexpr bool inside = std::is_same_v<Reply, container_inputs>;
        if (reply.ok() || inside) return answered(std::move(reply));
        answered(as_told(std::move(reply).error()));
      };
      if (phase_ >= build_phase::solving) return question(std::move(done));
      early_.push_back([question = std::move(question), done = std::move(done)] { question(done); });
    });
  }
  caf::result<gw::SolveResponse> ask_solve(int scope, gw::SolveRequest& r);
  caf::result<gw::ResolveImageConfigResponse> ask_image_config(int scope, gw::ResolveImageConfigRequest& r);
  caf::result<gw::ResolveSourceMetaResponse> ask_source_meta(int scope, gw::ResolveSourceMetaRequest& r);

  /// What the machine uses meanwhile, for provenance.
  void look_later();
  void look_at_machine();

  build_context b_;
  build_sources sources_{b_};
  import_set imports_{b_};
  ref_table refs_{b_, sources_, imports_};
  llb_bridge bridge_{b_, sources_, imports_, refs_};
  result_attester result_{b_, sources_, refs_, imports_};
  export_pipeline exports_{b_, refs_, result_};
  build_recorder recorder_{b_};
  ending ending_;
  build_phase phase_ = build_phase::created;
  std::optional<caf::typed_response_promise<ctl::SolveResponse>> answer_;
  open_questions questions_;
  std::vector<std::function<void()>> early_;
  std::int64_t created_ns_ = 0;
  bool described_ = false;              // the workers have said what they are
  std::optional<ctl::Vertex> waiting_;  // for a worker, as its clients see it
};

build_state::~build_state() {
  b_.over = true;
  auto gone = ending_.for_waiters();
  // Also the history is to know how it went; nothing below ends the build once more.
  phase_ = build_phase::finished;
  recorder_.break_off(gone);
  if (answer_) answer_->deliver(to_caf(gone));
  refuse_all(gone);
}

build_impl::behavior_type build_state::behavior() {
  ending_.watch(b_.self, "build " + b_.request().ref());
  return {
      [this](gw::PingRequest&) { return ask<gw::PongResponse>([this](auto done) { done(bridge_.ping()); }); },
      [this](gw::SolveRequest& r) { return ask_solve(0, r); },
      [this](std::int32_t scope, gw::SolveRequest& r) { return ask_solve(scope, r); },
      [this](gw::ResolveImageConfigRequest& r) { return ask_image_config(0, r); },
      [this](std::int32_t scope, gw::ResolveImageConfigRequest& r) { return ask_image_config(scope, r); },
      [this](gw::ResolveSourceMetaRequest& r) { return ask_source_meta(0, r); },
      [this](std::int32_t scope, gw::ResolveSourceMetaRequest& r) { return ask_source_meta(scope, r); },
      [this](gw::ReadFileRequest& r) {
        return ask<gw::ReadFileResponse>([this, r = std::move(r)](auto done) { bridge_.read_file(r, done); });
      },
      [this](gw::ReadDirRequest& r) {
        return ask<gw::ReadDirResponse>([this, r = std::move(r)](auto done) { bridge_.read_dir(r, done); });
      },
      [this](gw::StatFileRequest& r) {
        return ask<gw::StatFileResponse>([this, r = std::move(r)](auto done) { bridge_.stat_file(r, done); });
      },
      [this](gw::EvaluateRequest& r) {
        return ask<gw::EvaluateResponse>([this, r = std::move(r)](auto done) { bridge_.evaluate(r, done); });
      },
      [this](gw::WarnRequest& r) {
        return ask<gw::WarnResponse>([this, r = std::move(r)](auto done) { bridge_.warn(r, done); });
      },
      [this](gw::InputsRequest&) {
        gw::InputsResponse out;
        *out.mutable_definitions() = b_.request().frontendinputs();
        return out;
      },
      [this](gw::ReturnRequest& r) { return take_return(r); },
      [this](container_inputs& wanted) {
        return ask<container_inputs>(
            [this, wanted = std::move(wanted)](auto done) { bridge_.lend(wanted, done); });
      },
      [this](cancel_atom) { end(make_error(errc::cancelled, "context canceled")); },
      [this](start_atom) { return start(); },
      [this](watch_atom, const status_listener& who) { b_.log.watch(who); },
      [this](ctl::StatusResponse& status) { b_.log.add(std::move(status)); },
      [this](serve_atom) { b_.channel->serve(bridge_); },
      [this](tell_wait_atom) { tell_wait(); },
      [this](job_done_atom, std::uint64_t id) { b_.jobs.finish(id); },
      [this](look_atom) { look_at_machine(); },
  };
}

void build_state::look_later() {
  b_.self->delayed_send(handle_of<build_impl>(b_.self), b_.attestations.machine_usage().interval(),
                        look_atom::value);
}

void build_state::look_at_machine() {
  if (b_.over) return;
  using sample = nlohmann::ordered_json;
  b_.jobs.run<sample>(
      b_.self, *b_.options.io, []() -> result<sample> { return machine_usage(unix_now_ns()); },
      [this](result<sample> now) {
        if (now.ok()) b_.attestations.machine_usage().add(*std::move(now));
        look_later();
      });
}

caf::result<gw::SolveResponse> build_state::ask_solve(int scope, gw::SolveRequest& r) {
  // Moved, for a definition may be large: it is answered once.
  return ask<gw::SolveResponse>(
      [this, scope, r = std::move(r)](auto done) mutable { bridge_.solve(std::move(r), scope, done); });
}

caf::result<gw::ResolveImageConfigResponse> build_state::ask_image_config(int scope,
                                                                          gw::ResolveImageConfigRequest& r) {
  return ask<gw::ResolveImageConfigResponse>(
      [this, scope, r = std::move(r)](auto done) { sources_.resolve(r, scope, done); });
}

caf::result<gw::ResolveSourceMetaResponse> build_state::ask_source_meta(int scope,
                                                                        gw::ResolveSourceMetaRequest& r) {
  return ask<gw::ResolveSourceMetaResponse>(
      [this, scope, r = std::move(r)](auto done) { sources_.resolve(r, scope, done); });
}

caf::result<ctl::SolveResponse> build_state::start() {
  if (phase_ != build_phase::created)
    return to_caf(make_error(errc::failed_precondition, "build was started before"));
  answer_ = b_.self->make_response_promise<ctl::SolveResponse>();
  auto promise = *answer_;
  phase_ = build_phase::checking;
  created_ns_ = unix_now_ns();
  check();
  return promise;
}

void build_state::check() {
  if (auto s = prepare(b_.options.request); !s.ok()) return end(std::move(s).error());
  if (auto s = b_.attestations.begin(b_.request(), created_ns_); !s.ok()) return end(std::move(s).error());
  std::vector<std::string> requested(b_.request().entitlements().begin(), b_.request().entitlements().end());
  auto granted = solver::entitlements::grant(requested, b_.options.allowed_entitlements);
  if (!granted.ok()) return end(std::move(granted).error());
  b_.granted = *std::move(granted);
  auto worker = b_.worker();
  if (!worker.ok()) return end(std::move(worker).error());
  // In a cluster that is still to come together, it may take a while until there is a worker.
  b_.self->delayed_send(handle_of<build_impl>(b_.self), configs::solving::silent_wait, tell_wait_atom::value);
  b_.self->request(*worker, caf::infinite, describe_atom::value)
      .then(
          [this](types::WorkerRecord& record) {
            described_ = true;
            waited("");
            b_.worker_record = std::move(record);
            b_.devices = devices_of(b_.worker_record);
            for (const auto& p : b_.worker_record.platforms()) b_.platforms.push_back(from_proto(p));
            exports_.check([this] { begin(); });
          },
          [this](caf::error& e) { end(from_caf(e)); });
}

void build_state::tell_wait() {
  if (phase_ == build_phase::checking && !described_)
    waiting_ = b_.tasks.open("[internal] waiting for a worker");
}

void build_state::waited(const std::string& error) {
  if (waiting_) b_.tasks.close(*std::exchange(waiting_, std::nullopt), error);
}

void build_state::begin() {
  if (phase_ != build_phase::checking) return;
  phase_ = build_phase::solving;
  recorder_.begin(created_ns_);
  imports_.begin_own();
  look_later();
  for (auto& work : std::exchange(early_, {})) work();
  const auto& r = b_.request();
  if (r.has_definition() && (r.definition().def_size() > 0 || r.frontend().empty())) {
    gw::Result only;
    // An empty definition is scratch.
    only.mutable_ref()->set_id(
        r.definition().def_size() > 0 ? refs_.add(r.definition(), *sources_.policies_with({}), 0) : "");
    return solved(std::move(only));
  }
  if (r.frontend().empty()) return;  // a gateway client drives us and will Return
  std::map<std::string, std::string> options(r.frontendattrs().begin(), r.frontendattrs().end());
  std::map<std::string, pb::Definition> inputs(r.frontendinputs().begin(), r.frontendinputs().end());
  bridge_.run_frontend(r.frontend(), std::move(options), std::move(inputs), 0,
                       [this](result<gw::Result> outcome) {
                         if (!outcome.ok()) return end(std::move(outcome).error());
                         solved(*std::move(outcome));
                       });
}

caf::result<gw::ReturnResponse> build_state::take_return(gw::ReturnRequest& r) {
  bool driven = b_.request().frontend().empty() && !b_.request().has_definition();
  if (!driven)
    return to_caf(make_error(errc::failed_precondition, "the build is not driven by a gateway client"));
  if (phase_ != build_phase::solving)
    return to_caf(make_error(errc::already_exists, "the result was returned before"));
  if (r.has_error()) {
    auto own = from_rpc_status(r.error());
    end(told_as(own.code, own));
    return gw::ReturnResponse{};
  }
  for (const auto& id : ids_of(r.result()))
    if (!id.empty() && !refs_.contains(id))
      return to_caf(make_error(errc::unknown, "return reference " + id + " not found"));
  solved(std::move(*r.mutable_result()));
  return gw::ReturnResponse{};
}

void build_state::solved(gw::Result r) {
  if (phase_ != build_phase::solving) return;
  phase_ = build_phase::finishing;
  result_.finish(build_result::of(r), exports_.exports_cache() || recorder_.records(),
                 [this] { exports_.run([this](ctl::SolveResponse response) { end(std::move(response)); }); });
}

void build_state::end(result<ctl::SolveResponse> outcome, source_location where) {
  if (phase_ >= build_phase::recording) return;
  if (!outcome.ok()) {
    auto failure = as_told(std::move(outcome).error());
    add_stack(failure, where);
    outcome = std::move(failure);
  }
  waited(outcome.ok() ? "" : outcome.error().message);
  phase_ = build_phase::recording;
  b_.over = true;
  if (auto graph = b_.build_graph(); graph.ok()) b_.self->send(*graph, release_atom::value, b_.progress());
  sources_.close();
  refs_.release_left();
  refuse_all(outcome.ok() ? make_error(errc::cancelled, "the build has ended") : outcome.error());
  build_recorder::made what;
  what.multi = result_.result().multi;
  for (const auto& [id, ref] : result_.result().refs) what.parts.push_back(what.multi ? id : "");
  if (outcome.ok() && recorder_.records()) what.known = result_.known();
  what.exports = exports_.replies();
  if (outcome.ok()) what.metadata = result_.result().metadata;
  recorder_.end(outcome, std::move(what), [this, outcome] {
    phase_ = build_phase::finished;
    if (answer_) answer(*answer_, outcome);
    answer_.reset();
  });
}

void build_state::refuse_all(const error& why) {
  b_.channel->close();
  refs_.close(why);
  questions_.refuse(why);
  b_.log.close();
}

}  // namespace

build_impl::behavior_type build(build_impl::stateful_pointer<actor_state> self, build_options options) {
  return self->state.hold<build_state>("build", self, std::move(options)).behavior();
}

}  // namespace kiln::actors
