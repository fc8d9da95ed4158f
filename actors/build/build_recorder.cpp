#include "actors/build/build_recorder.hpp"

#include <utility>

#include <spdlog/spdlog.h>

#include "actors/history/history.hpp"
#include "actors/progress.hpp"
#include "base/utf8.hpp"
#include "messages/rpc_status.hpp"
#include "rpc_status.pb.h"

namespace kiln::actors {

void build_recorder::begin(std::int64_t created_ns) {
  created_ns_ = created_ns;
  if (b_.request().internal()) return;
  begun_ = true;
  publish(ctl::STARTED, std::nullopt, {}, {});
}

void build_recorder::break_off(const error& why) {
  if (std::exchange(begun_, false)) publish(ctl::COMPLETE, why, {}, {});
}

void build_recorder::end(const result<ctl::SolveResponse>& outcome, made what, std::function<void()> then) {
  if (!begun_) return then();
  if (!b_.options.store) {
    publish(ctl::COMPLETE, outcome, what, {});
    begun_ = false;
    return then();
  }
  using documents = std::vector<document>;
  auto shared = std::make_shared<const made>(std::move(what));
  b_.jobs.run<documents>(
      b_.self, *b_.options.io,
      [store = b_.options.store, ref = b_.request().ref(), log = b_.log.kept(), shared,
       outcome]() -> result<documents> {
        auto all = documents_of(*log, outcome);
        if (outcome.ok())
          for (auto& d : provenance_of(*shared)) all.push_back(std::move(d));
        for (auto& d : all) KILN_CHECK(keep_document(*store, ref, d.bytes, d.descriptor));
        return all;
      },
      [this, outcome, shared, then = std::move(then)](result<documents> kept) {
        if (!kept.ok())
          spdlog::warn("log of build {} not kept: {}", b_.request().ref(), kept.error().message);
        publish(ctl::COMPLETE, outcome, *shared, kept.ok() ? *kept : documents{});
        begun_ = false;
        then();
      });
}

std::vector<build_recorder::document> build_recorder::documents_of(
    const build_log::statuses& log, const result<ctl::SolveResponse>& outcome) {
  std::vector<document> out;
  out.push_back({document::log, "", build_log::encode(log), {}});
  out.back().descriptor.set_media_type("application/vnd.buildkit.status.v0");
  if (outcome.ok() || outcome.error().details.empty()) return out;
  google::rpc::Status whole;
  to_rpc_status(outcome.error(), whole);
  out.push_back({document::failure, "", whole.SerializeAsString(), {}});
  out.back().descriptor.set_media_type("application/vnd.googeapis.google.rpc.status+proto");
  return out;
}

std::vector<build_recorder::document> build_recorder::provenance_of(const made& what) {
  std::vector<document> out;
  auto predicates = build_attestations::describe(what.known);
  if (!predicates.ok()) {
    spdlog::warn("provenance of build {} not kept: {}", what.known.facts.invocation_id,
                 predicates.error().message);
    return out;
  }
  for (std::size_t i = 0; i < predicates->size(); ++i) {
    if ((*predicates)[i].empty()) continue;
    auto& d =
        out.emplace_back(document{document::provenance, what.parts[i], std::move((*predicates)[i]), {}});
    d.descriptor.set_media_type("application/vnd.in-toto+json");
    (*d.descriptor.mutable_annotations())["in-toto.io/predicate-type"] = what.known.history.predicate_type();
  }
  return out;
}

void build_recorder::publish(ctl::BuildHistoryEventType type,
                             const std::optional<result<ctl::SolveResponse>>& outcome, const made& what,
                             const std::vector<document>& documents) {
  auto history = b_.options.peers.history();
  if (!history) return;
  ctl::BuildHistoryEvent event;
  event.set_type(type);
  auto& record = *event.mutable_record();
  record.set_ref(b_.request().ref());
  record.set_frontend(b_.request().frontend());
  *record.mutable_frontendattrs() = b_.request().frontendattrs();
  *record.mutable_exporters() = b_.request().exporters();
  set_time(*record.mutable_createdat(), created_ns_);
  if (outcome) {
    set_time(*record.mutable_completedat(), unix_now_ns());
    record.set_numtotalsteps(b_.log.total_steps());
    record.set_numcompletedsteps(b_.log.completed_steps());
    record.set_numcachedsteps(b_.log.cached_steps());
    record.set_numwarnings(b_.log.warnings());
    if (outcome->ok()) {
      // Not what exporters answered, whatever the field is called: clients know it so from BuildKit.
      for (const auto& [key, value] : what.metadata)
        (*record.mutable_exporterresponse())[key] = valid_utf8(value);
    } else {
      to_rpc_status(outcome->error(), *record.mutable_error());
    }
    std::int64_t n = 0;
    for (const auto& e : what.exports)
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
        auto& info = what.multi ? (*record.mutable_results())[d.part] : *record.mutable_result();
        *info.add_attestations() = d.descriptor;
        break;
      }
    }
  }
  caf::anon_send(history, std::move(event));  // also of a build whose actor is going
}

}  // namespace kiln::actors
