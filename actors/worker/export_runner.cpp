#include "actors/worker/export_runner.hpp"

#include <span>

#include "actors/progress.hpp"
#include "actors/worker/cache_scope.hpp"
#include "actors/worker/step_progress.hpp"
#include "exporters/cache/collect.hpp"
#include "messages/located_id.hpp"

namespace kiln::actors {

namespace {

/// Names the records of other nodes as this store knows them. What those have lost is left out; what was
/// fetched lives as long as `kept`.
void name_here(const worker_options& o, std::map<std::string, std::string>& records,
               std::vector<store::ref>& kept, const job_context& job) {
  for (auto at = records.begin(); at != records.end();) {
    if (!is_remote(at->second)) {
      ++at;
    } else if (auto r = open_ref(o, at->second, job); r.ok() && *r) {
      at->second = r->id();
      kept.push_back(*std::move(r));
      ++at;
    } else {
      at = records.erase(at);
    }
  }
}

result<std::unique_ptr<exporters::exporter>> exporter_of(const worker_options& o, const export_spec& spec) {
  KILN_TRY(auto made, o.exporter(spec.type, spec.attributes, spec.index));
  if (spec.compatibility_version != 0) KILN_CHECK(made->can_be_like(spec.compatibility_version));
  return made;
}

result<exporters::export_outcome> run_export(const worker_resources& o, export_request& r,
                                             const job_context& job) {
  KILN_TRY(auto exporter, exporter_of(*o, r.spec));
  exporters::export_input input;
  if (r.spec.compatibility_version != 0) input.compatibility_version = r.spec.compatibility_version;
  std::vector<store::ref> kept;
  for (auto& part : r.parts) {
    KILN_TRY(auto ref, open_ref(*o, part.ref, job));
    exporters::export_ref one{part.id, part.platform, std::move(ref), {}};
    for (auto& a : part.attestations) {
      KILN_TRY(auto files, open_ref(*o, a.ref, job));
      name_here(*o, a.layer_records, kept, job);
      one.attestations.push_back({std::move(a), std::move(files)});
    }
    input.refs.push_back(std::move(one));
  }
  input.multi_platform = r.multi_platform;
  input.metadata = r.metadata;
  input.session_id = r.session;
  if (r.inline_cache)
    input.inline_cache = [o, scope = scope_of(r.trail, o->imports.get())](
                             std::size_t part, std::span<const store::layer_blob> layers,
                             const job_context& job) {
      return exporters::inline_cache_of(scope, part, layers, o->cache_resources, job);
    };
  // The exporter may be needed by its own second phase.
  std::shared_ptr<exporters::exporter> shared = std::move(exporter);
  KILN_TRY(auto outcome, shared->run(input, job));
  if (outcome.finalize)
    outcome.finalize = [shared, input, f = std::move(outcome.finalize)](const job_context& job) {
      return f(job);
    };
  return outcome;
}

}  // namespace

caf::result<std::string> export_runner::check(const export_spec& spec) const {
  auto e = exporter_of(*w_.options, spec);
  if (!e.ok()) return to_caf(e.error());
  return (*e)->name();
}

caf::result<export_reply> export_runner::run(export_request& r, const progress_actor& progress) {
  return jobs_.start<export_reply, exporters::export_outcome>(
      *w_.calls, false,
      [o = w_.options, r, progress](std::stop_token stop) mutable -> result<exporters::export_outcome> {
        result_owners owners;
        for (const auto& part : r.parts) owners.insert(part.owners.begin(), part.owners.end());
        owners = owners_here(*o, owners, context_of(*o, stop, r.sessions, null_progress()));
        step_progress sink(*o->store, progress, r.vertex, owners);
        return run_export(o, r, context_of(*o, stop, r.sessions, sink));
      },
      [this](exporters::export_outcome outcome, const caf::actor_addr& who) -> result<export_reply> {
        export_reply out;
        out.response = std::move(outcome.response);
        for (auto& d : outcome.results)
          out.results.push_back({d.media_type, d.digest.str(), d.size, d.annotations});
        if (outcome.finalize) {
          out.finalize = ++last_;
          finalizers_[out.finalize] = {who, std::move(outcome.finalize)};
        }
        return out;
      });
}

caf::result<export_reply> export_runner::finalize(std::uint64_t id, export_request& r,
                                                  const progress_actor& progress) {
  auto found = finalizers_.find(id);
  if (found == finalizers_.end()) return export_reply{};
  auto work = std::move(found->second.second);
  finalizers_.erase(found);
  return jobs_.start<export_reply, entries>(
      *w_.calls, false,
      [o = w_.options, work, r, progress](std::stop_token stop) -> result<entries> {
        progress_sender sink(progress, r.vertex);
        return work(context_of(*o, stop, r.sessions, sink));
      },
      [](entries response, const caf::actor_addr&) -> result<export_reply> {
        return export_reply{std::move(response), {}, 0};
      });
}

void export_runner::drop(const caf::actor_addr& who) {
  std::erase_if(finalizers_, [&](const auto& entry) { return entry.second.first == who; });
}

}  // namespace kiln::actors
