#include "actors/cluster/peer_records.hpp"

namespace kiln::actors {

caf::result<types::WorkerRecord> peer_records::answer() {
  auto worker = c_.options.worker();
  if (!worker) return c_.options.self.record;
  auto promise = c_.self->make_response_promise<types::WorkerRecord>();
  c_.self->request(worker, caf::infinite, describe_atom::value)
      .then([promise](types::WorkerRecord& record) mutable { promise.deliver(std::move(record)); },
            [promise](caf::error& e) mutable { promise.deliver(std::move(e)); });
  return promise;
}

caf::result<cluster_view> peer_records::ask() {
  auto missing = std::make_shared<std::size_t>(0);
  for (const auto& [n, l] : members_.links()) *missing += l.slow ? 0 : 1;
  if (*missing == 0) return known();
  auto promise = c_.self->make_response_promise<cluster_view>();
  auto one_less = [this, missing, promise]() mutable {
    if (--*missing == 0) promise.deliver(known());
  };
  for (const auto& [n, l] : members_.links()) {
    if (l.slow) continue;
    c_.self->request(l.handle, c_.options.peer_answer_time, describe_atom::value)
        .then(
            [this, n = n, id = l.id, one_less](types::WorkerRecord& record) mutable {
              if (auto* l = members_.find(n, id);
                  l && record.ByteSizeLong() <= configs::cluster::record_bytes_max)
                l->info.record = std::move(record);
              one_less();
            },
            [this, n = n, id = l.id, one_less](const caf::error& e) mutable {
              if (auto* l = members_.find(n, id); l && from_caf(e).code == errc::deadline_exceeded)
                l->slow = true;
              one_less();
            });
  }
  return promise;
}

cluster_view peer_records::known() const {
  cluster_view out;
  members_.show(out.nodes);
  return out;
}

}  // namespace kiln::actors
