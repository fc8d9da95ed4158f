#include "actors/worker/worker_context.hpp"

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

result_owners owners_here(const worker_options& o, const result_owners& owners, const job_context& job) {
  result_owners out;
  for (const auto& [record, vertex] : owners) {
    if (!is_remote(record)) {
      out.emplace(record, vertex);
    } else if (auto r = open_ref(o, record, job); r.ok() && *r) {
      out.emplace(r->id(), vertex);
    }
  }
  return out;
}

}  // namespace kiln::actors
