#include "actors/cluster/worker_offer.hpp"

#include <algorithm>
#include <utility>

#include "actors/cluster/cluster_record.hpp"
#include "configs/placing.hpp"

namespace kiln::actors {

caf::result<types::WorkerRecord> worker_offer::describe() {
  auto promise = self_->make_response_promise<types::WorkerRecord>();
  if (!places_.runners().empty()) {
    tell(promise);
  } else {
    early_.push_back({promise, self_->clock().now() + configs::placing::join_time});
    self_->delayed_send(handle_of<step_dispatcher_impl>(self_), configs::placing::join_time,
                        assign_atom::value);
  }
  return promise;
}

void worker_offer::answer_early() {
  bool joined = !places_.runners().empty();
  auto now = self_->clock().now();
  auto over = std::stable_partition(early_.begin(), early_.end(),
                                    [&](const early_question& q) { return !joined && q.until > now; });
  std::vector<early_question> answered(over, early_.end());
  early_.erase(over, early_.end());
  for (auto& q : answered) tell(q.promise);
}

void worker_offer::refuse_all(const caf::error& why) {
  for (auto& q : std::exchange(early_, {})) q.promise.deliver(why);
}

void worker_offer::tell(answer promise) {
  auto worker = options_.worker();
  if (!worker) {
    promise.deliver(to_caf(make_error(errc::unavailable, "worker is restarting, try again")));
    return;
  }
  self_->request(worker, caf::infinite, describe_atom::value)
      .then(
          [this, promise](types::WorkerRecord& own) {
            places_.set_record(options_.self.name, own);
            tell_with_others(std::move(own), promise);
          },
          [promise](caf::error& e) mutable { promise.deliver(std::move(e)); });
}

void worker_offer::tell_with_others(types::WorkerRecord own, answer promise) {
  auto finish = [this, own = std::move(own), promise]() mutable {
    promise.deliver(record_of_all(own, places_.runners()));
  };
  auto cluster = options_.cluster();
  if (!cluster) return finish();
  self_->request(cluster, caf::infinite, ask_peers_atom::value, describe_atom::value)
      .then(
          [this, finish](const cluster_view& view) mutable {
            for (const auto& n : view.nodes)
              if (n.state == "up" || n.state == "draining") places_.set_record(n.info.name, n.info.record);
            finish();
          },
          [finish](caf::error&) mutable { finish(); });
}

}  // namespace kiln::actors
