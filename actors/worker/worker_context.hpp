// What the parts of a worker share: its options, its pools, and the way to its refs. The worker's actor has
// it and outlives its parts.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "actors/worker/worker.hpp"

namespace kiln::actors {

/// Jobs keep it beyond the actor; the pools are not in it.
using worker_resources = std::shared_ptr<const worker_options>;

struct worker_context {
  worker_context(worker_impl::pointer actor, worker_options o)
      : self(actor),
        ops(std::move(o.ops)),
        calls(std::move(o.calls)),
        io(std::move(o.io)),
        options(std::make_shared<const worker_options>(std::move(o))) {}

  worker_impl::pointer self;
  std::shared_ptr<job_pool> ops, calls,
      io;  // never owned by jobs, so that whoever drops them last can join them
  worker_resources options;
};

// For a job's thread; any.

job_context context_of(const worker_options& o, std::stop_token stop, const session_group& sessions,
                       progress_sink& progress);
/// A ref of this store, or one of another node, which is fetched. Blocking. not_found when there is none; for
/// one of another node data_loss with a lost-ref detail.
result<store::ref> open_ref(const worker_options& o, const std::string& id, const job_context& job);
/// As open_ref; what is not found was lost.
result<std::vector<store::ref>> open_refs(const worker_options& o, const std::vector<std::string>& ids,
                                          const job_context& job);

/// Owners of records of this store: of those that other nodes have, too, which are fetched.
result_owners owners_here(const worker_options& o, const result_owners& owners, const job_context& job);

}  // namespace kiln::actors
