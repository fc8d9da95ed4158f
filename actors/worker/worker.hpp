// One local worker. Owns the job threads, the pins of refs, and who asked for what. May be asked to key
// and run ops, checksum, read, export and describe itself (messages/actor_interfaces.hpp). Jobs run on
// pools, never in the actor; sources, exec and file ops take one of `parallelism_max` slots. The requesters
// of one other node have a bounded number of jobs at a time; more are refused. When a requester dies its
// jobs are stopped, its pins released, its queued work dropped. When this actor dies its jobs are told to
// stop and every waiting request is answered; jobs then end on their pool, which must be joined before what
// they use goes.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "actors/handles.hpp"
#include "actors/job_pool.hpp"
#include "configs/cluster.hpp"
#include "exporters/cache/import_table.hpp"
#include "exporters/exporter.hpp"
#include "messages/actor_interfaces.hpp"
#include "messages/session.hpp"
#include "store/ref_store.hpp"
#include "workers/op_handler.hpp"

namespace kiln::workers {
class resolution_table;
}

namespace kiln::actors {

struct worker_options {
  store::ref_store* store = nullptr;      // these two outlive the actor system
  session_directory* sessions = nullptr;  // null: no clients
  std::function<result<std::shared_ptr<workers::op_handler>>(const pb::Op&)> handler;
  std::function<result<std::shared_ptr<workers::source_handler>>(std::string_view identifier)> source;
  std::function<result<std::unique_ptr<exporters::exporter>>(
      const std::string& type, const std::map<std::string, std::string>& attributes, int id)>
      exporter;
  exporters::exporter_resources cache_resources;     // for cache imports and exports; empty: none
  std::shared_ptr<exporters::import_table> imports;  // null: none
  std::function<result<digest>(const store::ref&, const std::vector<content_selector>&, const job_context&)>
      checksum;
  /// A ref of another node ("node!id"), as a lazy ref of this store; null: there are no other nodes.
  /// Blocking; data_loss with a lost-ref detail (solver/error_details.hpp) when nobody has it any more.
  std::function<result<store::ref>(const std::string& located, const job_context&)> fetch;
  /// Whether this node's own configuration lets a step run, whoever asks for it; blocking. Null: always.
  std::function<status(const pb::Op&)> admit;
  /// Takes caches of that id from under the steps that mount them; blocking. Null: there are no such steps.
  std::function<status(const std::string& id)> detach_cache;
  types::WorkerRecord record;
  /// Puts into the record what may have changed since: devices, platforms; blocking. Null: nothing may.
  std::function<void(types::WorkerRecord&)> update;
  int parallelism_max = 0;                                            // 0: as many as there are threads
  std::shared_ptr<const workers::resolution_table> builds = nullptr;  // what sources lead to; null: forgotten
  std::size_t jobs_of_node_max = configs::cluster::jobs_of_node_max;
  std::shared_ptr<job_pool> ops, calls, io;  // steps; what waits for others; short work on the disk
};

using worker_impl = worker_actor::extend<caf::reacts_to<job_done_atom, std::uint64_t>>;

worker_impl::behavior_type worker(worker_impl::stateful_pointer<actor_state> self, worker_options options);

/// The worker's identity, kept in the store so that it survives restarts.
result<std::string> worker_id(store::ref_store& store);

}  // namespace kiln::actors
