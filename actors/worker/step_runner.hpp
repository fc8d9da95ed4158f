// What a worker is asked of steps: their cache maps, running them, digests of what they read, what sources
// lead to, and the files of their results. Used on the worker's actor only; the work is done by jobs.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "actors/worker/job_table.hpp"
#include "actors/worker/ref_pins.hpp"

namespace kiln::actors {

class step_runner {
 public:
  /// All of these must outlive this.
  step_runner(worker_context& worker, job_table& jobs, ref_pins& pins)
      : w_(worker), jobs_(jobs), pins_(pins) {}

  caf::result<types::WorkerRecord> describe();
  caf::result<key_reply> key(key_request& r, const progress_actor& progress);
  /// Its results are pinned for the sender, and what a failed step left behind.
  caf::result<run_reply> run(run_request& r, const progress_actor& progress);
  caf::result<digest> checksum(checksum_request& r, const progress_actor& progress);
  caf::result<gw::ResolveSourceMetaResponse> resolve(session_group& sessions, gw::ResolveSourceMetaRequest& r,
                                                     const progress_actor& progress);
  caf::result<gw::ReadFileResponse> read(ref_scope& scope, gw::ReadFileRequest& r);
  caf::result<gw::ReadDirResponse> read(ref_scope& scope, gw::ReadDirRequest& r);
  caf::result<gw::StatFileResponse> read(ref_scope& scope, gw::StatFileRequest& r);

 private:
  using build_memory = std::shared_ptr<workers::resolutions>;
  /// What the sources of that build lead to; null when nothing is remembered.
  build_memory memory_of(const std::string& build) const;
  static workers::op_request request_of(const op_spec& spec, build_memory build);
  template <class Reply>
  caf::result<Reply> with_tree(ref_scope& scope,
                               std::function<result<Reply>(const std::filesystem::path&)> look);

  worker_context& w_;
  job_table& jobs_;
  ref_pins& pins_;
};

}  // namespace kiln::actors
