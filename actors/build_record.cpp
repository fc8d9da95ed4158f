// The end of a build, its place in the history, and the progress of its own work.
#include <spdlog/spdlog.h>

#include "actors/build_state.hpp"
#include "actors/failure_stack.hpp"
#include "actors/history.hpp"
#include "messages/rpc_status.hpp"
#include "rpc_status.pb.h"

namespace kiln::actors {

void build_state::end(result<ctl::SolveResponse> outcome, std::source_location where) {
  if (phase_ == build_phase::finished || phase_ == build_phase::recording) return;
  if (!outcome.ok()) {
    auto failure = std::move(outcome).error();
    add_stack(failure, where);
    outcome = std::move(failure);
  }
  set_phase(build_phase::recording);
  channel_->close();
  if (auto graph = o_.peers.build_graph()) self_->send(graph, release_atom::value, progress_handle());
  if (auto worker = o_.peers.worker())
    for (const auto& id : std::exchange(left_, {})) self_->send(worker, release_atom::value, id);
  auto gone = outcome.ok() ? make_error(errc::cancelled, "the build has ended") : outcome.error();
  for (auto& [id, r] : refs_)
    for (auto& w : std::exchange(r.waiters, {})) w(gone);
  for (auto& [id, refuse] : std::exchange(unanswered_, {})) refuse(gone);
  log_.close();
  auto deliver = [this, outcome] {
    set_phase(build_phase::finished);
    if (answer_) answer(*answer_, outcome);
    answer_.reset();
  };
  if (!recorded_ || !o_.store) {
    if (recorded_) publish(ctl::COMPLETE, outcome, {});
    return deliver();
  }
  using documents = std::vector<document>;
  std::vector<std::string> ids;
  for (const auto& [id, part] : final_.refs) ids.push_back(final_.multi ? id : "");
  auto known = outcome.ok() ? known_result() : build_attestations::known_result{};
  jobs_.run<documents>(
      self_, *o_.io,
      [store = o_.store, ref = o_.request.ref(), all = documents_of(outcome), known = std::move(known),
       ids = std::move(ids)]() mutable -> result<documents> {
        for (auto& d : provenance_documents(known, ids)) all.push_back(std::move(d));
        for (auto& d : all) KILN_CHECK(keep_document(*store, ref, d.bytes, d.descriptor));
        return std::move(all);
      },
      [this, outcome, deliver](result<documents> kept) {
        if (!kept.ok()) spdlog::warn("log of build {} not kept: {}", o_.request.ref(), kept.error().message);
        publish(ctl::COMPLETE, outcome, kept.ok() ? *kept : documents{});
        deliver();
      });
}

/// The log; what clients may want to know of a failure beyond its text.
std::vector<build_state::document> build_state::documents_of(const result<ctl::SolveResponse>& outcome) const {
  std::vector<document> out;
  out.push_back({document::log, "", log_.encode(), {}});
  out.back().descriptor.set_media_type("application/vnd.buildkit.status.v0");
  if (outcome.ok() || outcome.error().details.empty()) return out;
  google::rpc::Status whole;
  to_rpc_status(outcome.error(), whole);
  out.push_back({document::failure, "", whole.SerializeAsString(), {}});
  out.back().descriptor.set_media_type("application/vnd.googeapis.google.rpc.status+proto");
  return out;
}

std::vector<build_state::document> build_state::provenance_documents(const build_attestations::known_result& known,
                                                                     const std::vector<std::string>& ids) {
  std::vector<document> out;
  auto predicates = build_attestations::describe(known);
  if (!predicates.ok()) {
    spdlog::warn("provenance of build {} not kept: {}", known.facts.invocation_id, predicates.error().message);
    return out;
  }
  for (std::size_t i = 0; i < predicates->size(); ++i) {
    if ((*predicates)[i].empty()) continue;
    auto& d = out.emplace_back(document{document::provenance, ids[i], std::move((*predicates)[i]), {}});
    d.descriptor.set_media_type("application/vnd.in-toto+json");
    (*d.descriptor.mutable_annotations())["in-toto.io/predicate-type"] = known.history.predicate_type();
  }
  return out;
}

void build_state::publish(ctl::BuildHistoryEventType type, const std::optional<result<ctl::SolveResponse>>& outcome,
                          const std::vector<document>& documents) {
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
  for (const auto& d : documents) {
    switch (d.kind) {
      case document::log: *record.mutable_logs() = d.descriptor; break;
      case document::failure:
        *record.mutable_externalerror() = d.descriptor;
        record.mutable_error()->clear_details();
        break;
      case document::provenance: {
        auto& info = final_.multi ? (*record.mutable_results())[d.part] : *record.mutable_result();
        *info.add_attestations() = d.descriptor;
        break;
      }
    }
  }
  caf::anon_send(history, std::move(event));  // also of a build whose actor is going
}

std::string build_state::task_digest(const std::string& name) const {
  return sha256(o_.request.ref() + "\n" + o_.request.session() + "\n" + name).str();
}

ctl::Vertex build_state::open_task(const std::string& name, std::string digest) {
  ctl::Vertex v;
  v.set_digest(digest.empty() ? task_digest(name + "\n" + std::to_string(++tasks_)) : std::move(digest));
  v.set_name(name);
  set_time(*v.mutable_started(), unix_now_ns());
  ctl::StatusResponse out;
  *out.add_vertexes() = v;
  log_.add(std::move(out));
  return v;
}

void build_state::close_task(ctl::Vertex v, const std::string& error) {
  set_time(*v.mutable_completed(), unix_now_ns());
  v.set_error(error);
  ctl::StatusResponse out;
  *out.add_vertexes() = std::move(v);
  log_.add(std::move(out));
}

}  // namespace kiln::actors
