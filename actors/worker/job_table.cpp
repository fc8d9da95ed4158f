#include "actors/worker/job_table.hpp"

namespace kiln::actors {

void job_table::meet(const caf::strong_actor_ptr& requester) {
  if (met_.try_emplace(caf::actor_cast<caf::actor_addr>(requester)).second)
    w_.self->monitor(caf::actor_cast<caf::actor>(requester));
}

bool job_table::drop(const caf::actor_addr& requester) {
  auto found = met_.find(requester);
  if (found == met_.end()) return false;
  for (auto id : found->second) {
    auto at = jobs_.find(id);
    at->second.stop.request_stop();
    jobs_.erase(at);
  }
  met_.erase(found);
  w_.self->demonitor(requester);
  return true;
}

void job_table::refuse_all(const error& why) {
  for (auto& [id, j] : std::exchange(jobs_, {})) {
    j.stop.request_stop();
    j.refuse(why);
  }
}

void job_table::take_slot(std::uint64_t id, std::function<void()> begin) {
  if (auto most = w_.options->parallelism_max; most <= 0 || busy_ < most) {
    ++busy_;
    begin();
  } else {
    waiting_.emplace_back(id, std::move(begin));
  }
}

void job_table::leave_slot() {
  --busy_;
  while (!waiting_.empty()) {
    auto [id, begin] = std::move(waiting_.front());
    waiting_.pop_front();
    if (!jobs_.contains(id)) continue;
    ++busy_;
    begin();
    return;
  }
}

}  // namespace kiln::actors
