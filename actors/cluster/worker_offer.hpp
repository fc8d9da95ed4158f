// What a node tells builds of the worker: what all nodes that run steps are together, as they are now. Used
// on the step dispatcher's actor only.
#pragma once

#include <vector>

#include "actors/cluster/step_dispatcher.hpp"
#include "actors/cluster/step_scheduler.hpp"

namespace kiln::actors {

class worker_offer {
 public:
  /// All must outlive this; it keeps the records in `places` up to date.
  worker_offer(step_dispatcher_impl::pointer self, const step_dispatcher_options& options,
               step_scheduler& places)
      : self_(self), options_(options), places_(places) {}

  /// A node that coordinates only has nothing to offer before others have joined: then this waits.
  caf::result<types::WorkerRecord> describe();
  /// A node has joined, or assign_atom has come: answers those that need not wait any more.
  void answer_early();
  void refuse_all(const caf::error& why);

 private:
  using answer = caf::typed_response_promise<types::WorkerRecord>;
  struct early_question {
    answer promise;
    work_time until;
  };

  void tell(answer promise);
  void tell_with_others(types::WorkerRecord own, answer promise);

  step_dispatcher_impl::pointer self_;
  const step_dispatcher_options& options_;
  step_scheduler& places_;
  std::vector<early_question> early_;  // asked before anybody ran steps
};

}  // namespace kiln::actors
