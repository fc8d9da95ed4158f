// Which refs stay because somebody holds them. Used on the worker's actor only.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "actors/worker/job_table.hpp"

namespace kiln::actors {

class ref_pins {
 public:
  /// Both must outlive this.
  ref_pins(worker_context& worker, job_table& jobs) : w_(worker), jobs_(jobs) {}

  /// For somebody the job table has met; once more each time. Nothing is pinned of scratch.
  void keep(const caf::actor_addr& who, const store::ref& r);
  /// What (pin_atom, id) asks, for the present sender: a job, for the record may have to be read. not_found
  /// when the store has no such ref.
  caf::result<bool> pin(const std::string& id);
  /// One less, for the present sender; also of a pin that is still under way.
  void release(const std::string& id);
  void drop(const caf::actor_addr& who);

 private:
  /// Takes one away and what then nobody holds.
  void give_back(const caf::actor_addr& who, const std::string& id);

  using held = std::map<std::string, std::pair<store::ref, int>>;  // the ref is null while it is opened
  worker_context& w_;
  job_table& jobs_;
  std::map<caf::actor_addr, held> of_;
};

}  // namespace kiln::actors
