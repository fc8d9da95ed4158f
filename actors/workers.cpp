#include "actors/workers.hpp"

#include "actors/cluster/cluster.hpp"
#include "actors/worker_fields.hpp"

namespace kiln::actors {

workers_actor::behavior_type workers(workers_actor::stateful_pointer<actor_state> self,
                                     workers_options options) {
  auto& o = self->state.hold<workers_options>("workers", std::move(options));
  return {
      [self, &o](list_atom, ctl::ListWorkersRequest& request) -> caf::result<ctl::ListWorkersResponse> {
        auto f = filter::parse({request.filter().begin(), request.filter().end()});
        if (!f.ok()) return to_caf(f.error());
        // In a cluster the dispatcher would tell of all nodes as one, and wait for them.
        auto worker = o.peers.local_worker();
        if (!worker) worker = o.peers.worker();
        if (!worker) return ctl::ListWorkersResponse{};
        auto promise = self->make_response_promise<ctl::ListWorkersResponse>();
        auto cluster = o.peers.registry->get<cluster_actor>(peers::cluster_name);
        self->request(worker, caf::infinite, describe_atom::value)
            .then(
                [self, promise, cluster, f = *std::move(f)](types::WorkerRecord& record) mutable {
                  ctl::ListWorkersResponse out;
                  if (f.matches(fields_of(record))) *out.add_record() = record;
                  if (!cluster) {
                    promise.deliver(std::move(out));
                    return;
                  }
                  self->request(cluster, caf::infinite, ask_peers_atom::value, describe_atom::value)
                      .then(
                          [promise, out, f](const cluster_view& view) mutable {
                            for (const auto& n : view.nodes) {
                              bool there = n.state == "up" || n.state == "draining";
                              if (there && n.info.role != node_role::coordinator &&
                                  f.matches(fields_of(n.info.record)))
                                *out.add_record() = n.info.record;
                            }
                            promise.deliver(std::move(out));
                          },
                          [promise, out](caf::error&) mutable { promise.deliver(std::move(out)); });
                },
                [promise](caf::error& e) mutable { promise.deliver(std::move(e)); });
        return promise;
      },
  };
}

}  // namespace kiln::actors
