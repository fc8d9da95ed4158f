#include "actors/worker/worker_context.hpp"

#include <spdlog/spdlog.h>

#include "messages/located_id.hpp"
#include "solver/error_details.hpp"

namespace kiln::actors {

job_context context_of(const worker_options& o, std::stop_token stop, const session_group& sessions,
                       progress_sink& progress) {
  job_context out;
  out.stop = std::move(stop);
  out.sessions = sessions;
  out.directory = o.sessions;
  out.progress = &progress;
  return out;
}

result<store::ref> open_ref(const worker_options& o, const std::string& id, const job_context& job) {
  if (id.empty() || id == scratch_result) return store::ref{};
  if (!is_remote(id)) return o.store->get(id);
  if (!o.fetch) return make_error(errc::failed_precondition, "ref " + id + " belongs to another node");
  return o.fetch(id, job);
}

result<std::vector<store::ref>> open_refs(const worker_options& o, const std::vector<std::string>& ids,
                                          const job_context& job) {
  std::vector<store::ref> out;
  for (const auto& id : ids) {
    auto r = open_ref(o, id, job);
    if (!r.ok())
      return r.error().code == errc::not_found ? solver::lost_ref(id, r.error().message)
                                               : std::move(r).error();
    out.push_back(*std::move(r));
  }
  return out;
}

std::vector<store::ref> fetch_trail(const worker_options& o, cache_trail& trail, const job_context& job) {
  std::vector<store::ref> kept;
  auto name_here = [&](std::string& id) {
    if (!is_remote(id)) return;
    auto r = open_ref(o, id, job);
    if (!r.ok()) spdlog::warn("{} is left out of the exported cache: {}", id, r.error().message);
    id = r.ok() && *r ? r->id() : "";
    if (r.ok()) kept.push_back(*std::move(r));
  };
  for (auto& step : trail.steps) name_here(step.ref);
  for (auto& r : trail.results) name_here(r.ref);
  return kept;
}

}  // namespace kiln::actors
