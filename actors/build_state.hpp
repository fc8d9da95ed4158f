// The state of a build actor (build.hpp), shared by the files that make it up: build.cpp (its door and its way),
// build_refs.cpp (results), build_scan.cpp (SBOMs), build_exports.cpp (what leaves), build_record.cpp (progress, history, the end).
// Included by these only. Everything runs on the build's actor.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include "actors/build.hpp"
#include "actors/build_log.hpp"
#include "actors/build_request.hpp"
#include "actors/ending.hpp"
#include "actors/frontend_bridge.hpp"
#include "actors/policy_review.hpp"
#include "actors/progress.hpp"
#include "frontends/sbom.hpp"
#include "solver/entitlements.hpp"
#include "solver/source_policy.hpp"
#include "store/ref_store.hpp"

namespace kiln::actors {

/// One result of this build, solved when somebody needs it.
struct build_ref {
  std::shared_ptr<const pb::Definition> definition;  // jobs read it too
  std::vector<solver::source_policy> policies;
  std::vector<std::string> imports;  // ids, besides those of the request
  bool asked = false;
  vertex_actor root;  // of its definition, once placed
  std::int32_t index = 0;
  int remade = 0;
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

enum class build_phase { created, checking, solving, evaluating, exporting, pushing, recording, finished };

class build_state : public bridge_face {
 public:
  build_state(build_impl::pointer self, build_options options)
      : self_(self), o_(std::move(options)), channel_(std::make_shared<bridge_channel>(handle_of<caf::actor>(self))) {
    remember_sources();
  }

  ~build_state() override;
  build_impl::behavior_type behavior();

  // The questions of frontends and gateway clients.
  void solve(gw::SolveRequest r, int frame, continuation<gw::SolveResponse> done) override;
  void resolve_image_config(gw::ResolveImageConfigRequest r, int frame,
                            continuation<gw::ResolveImageConfigResponse> done) override;
  void resolve_source_meta(gw::ResolveSourceMetaRequest r, int frame,
                           continuation<gw::ResolveSourceMetaResponse> done) override;

  /// Of a source that policies have seen.
  void resolve_now(gw::ResolveSourceMetaRequest r, int frame, continuation<gw::ResolveSourceMetaResponse> done);
  void read_file(gw::ReadFileRequest r, continuation<gw::ReadFileResponse> done) override;
  void read_dir(gw::ReadDirRequest r, continuation<gw::ReadDirResponse> done) override;
  void stat_file(gw::StatFileRequest r, continuation<gw::StatFileResponse> done) override;
  void warn(gw::WarnRequest r, continuation<gw::WarnResponse> done) override;

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
  caf::result<gw::SolveResponse> ask_solve(int frame, gw::SolveRequest& r);
  caf::result<gw::ResolveImageConfigResponse> ask_image_config(int frame, gw::ResolveImageConfigRequest& r);
  caf::result<gw::ResolveSourceMetaResponse> ask_source_meta(int frame, gw::ResolveSourceMetaRequest& r);

  /// Clients may come before everything is checked; they wait for that.
  void when_ready(std::function<void()> work);
  status refuse_late() const;
  session_group sessions() const;
  progress_actor progress_handle() const { return handle_of<progress_actor>(self_); }
  gw::PongResponse ping();

  // Results.
  /// Whether one more may be kept.
  status room_for(const pb::Definition& definition);
  std::string add_ref(const pb::Definition& definition, std::vector<solver::source_policy> policies, int frame);
  definition_lookup definitions() const;

  /// The request's policy first, then those of one question.
  result<std::vector<solver::source_policy>> policies_with(
      const google::protobuf::RepeatedPtrField<solver::source_policy>& more) const;

  /// The result behind a ref of this build; "" is scratch.
  void evaluate(const std::string& id, continuation<vertex_result> done);
  void settle(const std::string& id, result<vertex_result> value);
  /// Keeps the records an error tells of while this build lives: clients open containers on them.
  void keep_left(const error& e);

  /// Platforms of sources that name none.
  pb::Platform default_platform() const;
  policy_questions policy_questions_of(int frame);
  void load(const std::string& id);
  /// Has the client asked about every source of a ref, then loads it as the client wants it.
  void review(const std::string& id, std::vector<reviewed_source> sources);
  void load_with(const std::string& id, std::function<status(pb::Op&)> mutate);
  void place(const std::string& id, graph_spec spec);
  void place_now(const std::string& id, graph_spec spec);
  void ask_root(const std::string& id);
  /// A result is gone with its node: asks for it again, which makes it again. False when that is not what the
  /// error says, or has been tried often enough.
  bool remake(const error& e);
  void evaluate_refs(std::vector<std::string> ids, continuation<std::vector<vertex_result>> done);

  /// What a container needs of this build: its refs' records, its session, what it may do.
  void lend(container_inputs wanted, continuation<container_inputs> done);
  template <class Reply, class Request>
  void look(const std::string& ref, Request request, continuation<Reply> done) {
    if (ref.empty()) return done(make_error(errc::unknown, "empty ref: " + ref));
    evaluate(ref, [this, ref, request, done](result<vertex_result> value) {
      if (!value.ok()) return done(std::move(value).error());
      auto worker = o_.peers.worker();
      if (!worker) return done(from_caf(peer_down(peers::worker_name)));
      self_->request(worker, caf::infinite, ref_scope{value->ref, sessions()}, request)
          .then([done](Reply& reply) { done(std::move(reply)); },
                [this, ref, request, done](caf::error& e) {
                  auto failure = from_caf(e);
                  if (remake(failure)) return look<Reply>(ref, request, done);
                  done(std::move(failure));
                });
    });
  }
  static std::vector<std::string> ids_of(const gw::Result& r);

  /// Whoever gets a ref may build on it by its definition.
  void add_definitions(gw::Result& r) const;
  static void to_deprecated(gw::Result& r);

  // Cache imports. They load in the background; definitions wait for them before they are placed.
  std::vector<std::string> begin_imports(const gw::SolveRequest& r);

  /// Equal imports are one; its name. An import that cannot be had is shown and done without.
  std::string begin_import(cache_entry entry);
  void when_imported(std::vector<std::string> names, std::function<void()> work);

  // Frontends.
  void run_frontend(std::string name, std::map<std::string, std::string> options,
                    std::map<std::string, pb::Definition> inputs, int parent, continuation<gw::Result> done);

  // The build's own way.
  void set_phase(build_phase p) { phase_ = p; }
  caf::result<ctl::SolveResponse> start();
  void check();
  export_spec spec_of(int index) const;
  static cache_entry entry_of(const ctl::CacheOptionsEntry& e);
  void check_cache_exports(int index);
  void begin();
  caf::result<gw::ReturnResponse> take_return(gw::ReturnRequest& r);
  void solved(gw::Result r);
  /// Runs the scanner over a result that is to have an SBOM and has none. Source: llbsolver/proc/sbom.go.
  void scan(std::function<void()> then);
  void add_scans(const std::vector<attested_part>& parts, frontends::sbom_scanner scanner, int frame,
                 std::function<void()> then);
  /// Then everything that goes with the result is there.
  void evaluate_attestations(std::vector<vertex_result> values);

  /// The parts of the result as attestations know them.
  std::vector<attested_part> attested_parts() const;
  build_attestations::known_result known_result() const;

  /// Gathers what the frontend and the daemon have to say about each part.
  void attest(std::vector<vertex_result> values);
  void attested(std::vector<vertex_result> values, std::vector<std::vector<attestation>> own);

  /// The client may want more exported, now that there is a result.
  void ask_for_exporters(std::vector<vertex_result> values);

  /// Checks the exporters that have no name yet.
  void name_exporters(std::function<void()> then);

  /// What the steps of this build came to, for exporting its cache.
  void gather_trail(std::vector<vertex_result> values);
  platform platform_of_part(const std::string& id) const;
  export_request request_of(int index, const std::vector<vertex_result>& values) const;

  /// All exporters in parallel; when all have committed, their second phases in parallel.
  void run_exports(std::vector<vertex_result> values);
  /// When a node took a result with it, all exports are made once more, of the result made again.
  void one_export_less();
  void warn_of(const std::vector<std::string>& texts, const std::string& vertex);
  void export_failed(const ctl::Vertex& shown, const caf::error& e);
  void run_finalizers();

  /// Beside the second phases: the exporters have made the layers by now.
  void run_cache_exports();
  void succeed();

  /// The build is over, well or badly: stops what still runs, tells watchers, keeps the record.
  void end(result<ctl::SolveResponse> outcome, std::source_location where = std::source_location::current());
  /// What the history keeps beside the record: a blob, and what to name it in the record.
  struct document {
    enum { log, failure, provenance } kind = log;
    std::string part;  // platform id, of provenance; empty when single
    std::string bytes;
    ctl::Descriptor descriptor;
  };
  std::vector<document> documents_of(const result<ctl::SolveResponse>& outcome) const;
  /// What successful parts were made from. `ids`: of the parts; empty when single. Pure.
  static std::vector<document> provenance_documents(const build_attestations::known_result& known,
                                                    const std::vector<std::string>& ids);
  void publish(ctl::BuildHistoryEventType type, const std::optional<result<ctl::SolveResponse>>& outcome,
               const std::vector<document>& documents);

  // Progress of the build's own work.
  std::string task_digest(const std::string& name) const;
  ctl::Vertex open_task(const std::string& name, std::string digest = "");
  void close_task(ctl::Vertex v, const std::string& error);
  /// From now on what its sources lead to stays the same.
  void remember_sources();

  build_impl::pointer self_;
  build_options o_;
  ending ending_;
  build_attestations attestations_{o_.provenance};
  std::shared_ptr<bridge_channel> channel_;
  std::shared_ptr<workers::resolutions> sources_;  // what they lead to; held for the worker, who finds it by our name
  job_runner jobs_;
  build_log log_;
  build_phase phase_ = build_phase::created;
  std::optional<caf::typed_response_promise<ctl::SolveResponse>> answer_;
  std::map<std::uint64_t, std::function<void(const error&)>> unanswered_;
  std::uint64_t open_promises_ = 0;
  std::vector<std::function<void()>> early_;
  solver::entitlements granted_;
  types::WorkerRecord worker_record_;
  std::vector<solver::device> devices_;  // those there were when the build began
  std::vector<platform> platforms_;  // the worker's, default first
  std::map<std::string, build_ref> refs_;
  std::size_t definitions_bytes_ = 0;  // of those that were asked for
  std::set<std::string> left_;  // records that failed steps left behind, for the client to look into
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
  std::optional<error> lost_in_export_;
  int tasks_ = 0;
  bool recorded_ = false;
  std::int64_t created_ns_ = 0;
};

}  // namespace kiln::actors
