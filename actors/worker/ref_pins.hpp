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
  /// What (pin_atom, id) asks, for the present sender. not_found when the store has no such ref.
  caf::result<bool> pin(const std::string& id);
  /// One less, for the present sender.
  void release(const std::string& id);
  void drop(const caf::actor_addr& who);

 private:
  using held = std::map<std::string, std::pair<store::ref, int>>;
  /// Letting refs go may remove snapshots: not here.
  template <class T>
  void let_go(T what) {
    w_.io->submit([owned = std::make_shared<T>(std::move(what))]() mutable { owned.reset(); });
  }

  worker_context& w_;
  job_table& jobs_;
  std::map<caf::actor_addr, held> of_;
};

}  // namespace kiln::actors
