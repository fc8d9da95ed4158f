#include "actors/cluster/peer_records.hpp"

#include "actors/cluster/ask_peers.hpp"

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
  auto promise = c_.self->make_response_promise<cluster_view>();
  auto took = [this](const std::string& node, std::uint64_t id, types::WorkerRecord& record) {
    if (auto* l = members_.find(node, id); l && record.ByteSizeLong() <= configs::cluster::record_bytes_max)
      l->info.record = std::move(record);
  };
  auto done = [this, promise]() mutable { promise.deliver(known()); };
  if (!ask_peers<types::WorkerRecord>(c_, members_, took, done, describe_atom::value)) done();
  return promise;
}

cluster_view peer_records::known() const {
  cluster_view out;
  members_.show(out.nodes);
  return out;
}

}  // namespace kiln::actors
