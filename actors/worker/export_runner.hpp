// What a worker is asked of exports: checking them, running them, and their second phases. Used on the
// worker's actor only; the work is done by jobs.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "actors/worker/job_table.hpp"

namespace kiln::actors {

class export_runner {
 public:
  /// Both must outlive this.
  export_runner(worker_context& worker, job_table& jobs) : w_(worker), jobs_(jobs) {}

  /// The exporter's name, if it is one that can be had.
  caf::result<std::string> check(const export_spec& spec) const;
  caf::result<export_reply> run(export_request& r, const progress_actor& progress);
  /// The second phase of an export, once; nothing when there is none.
  caf::result<export_reply> finalize(std::uint64_t id, export_request& r, const progress_actor& progress);
  void drop(const caf::actor_addr& who);

 private:
  using entries = std::map<std::string, std::string>;
  using finalizer = std::function<result<entries>(const job_context&)>;

  worker_context& w_;
  job_table& jobs_;
  std::map<std::uint64_t, std::pair<caf::actor_addr, finalizer>> finalizers_;
  std::uint64_t last_ = 0;
};

}  // namespace kiln::actors
