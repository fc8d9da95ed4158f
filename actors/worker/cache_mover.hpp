// What a worker is asked of caches: importing and exporting remote ones, remembering what peers' builds have
// learnt, emptying cache mounts. Used on the worker's actor only; the work is done by jobs.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "actors/worker/job_table.hpp"
#include "actors/worker/ref_pins.hpp"

namespace kiln::actors {

class cache_mover {
 public:
  /// All of these must outlive this.
  cache_mover(worker_context& worker, job_table& jobs, ref_pins& pins)
      : w_(worker), jobs_(jobs), pins_(pins) {}

  caf::result<cache_export_kind> check(const cache_entry& e) const;
  /// The import is the sender's, and goes with it.
  caf::result<bool> import(cache_import& r, const progress_actor& progress);
  /// A result of an import, pinned for the sender.
  caf::result<run_reply> load(import_load& r, const progress_actor& progress);
  caf::result<export_reply> export_cache(cache_export& r, const progress_actor& progress);
  /// Keys of a peer's build; dropped when many wait, for they only spare others a question.
  void remember(cache_records& facts);
  /// Empties named cache mounts: whose description tells of them goes, and what is in use is only for its
  /// users.
  caf::result<bool> prune(prune_caches& r);
  void drop(const caf::actor_addr& who);

 private:
  worker_context& w_;
  job_table& jobs_;
  ref_pins& pins_;
  std::map<caf::actor_addr, std::set<std::string>> imports_of_;
  std::shared_ptr<std::atomic<std::size_t>> facts_waiting_ = std::make_shared<std::atomic<std::size_t>>(0);
};

}  // namespace kiln::actors
