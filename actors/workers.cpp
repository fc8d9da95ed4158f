#include "actors/workers.hpp"

#include "actors/cluster/cluster.hpp"
#include "messages/filter.hpp"
#include "messages/told_code.hpp"

namespace kiln::actors {

namespace {

bool matches(const filter& f, const types::WorkerRecord& record) {
  return f.matches([&](std::span<const std::string> path) -> std::optional<std::string> {
    if (path.size() == 1 && path[0] == "id") return record.id();
    if (path.size() < 2 || path[0] != "labels") return std::nullopt;
    std::string name = path[1];
    for (const auto& part : path.subspan(2)) name += "." + part;
    auto label = record.labels().find(name);
    if (label == record.labels().end()) return std::nullopt;
    return label->second;
  });
}

}  // namespace

workers_actor::behavior_type workers(workers_actor::stateful_pointer<actor_state> self,
                                     workers_options options) {
  auto& o = self->state.hold<workers_options>("workers", std::move(options));
  return {
      [self, &o](list_atom, ctl::ListWorkersRequest& request) -> caf::result<ctl::ListWorkersResponse> {
        auto f = filter::parse({request.filter().begin(), request.filter().end()});
        if (!f.ok()) return to_caf(as_told(f.error()));
        auto worker = o.peers.worker();
        if (!worker) return ctl::ListWorkersResponse{};
        auto promise = self->make_response_promise<ctl::ListWorkersResponse>();
        auto cluster = o.peers.registry->get<cluster_actor>(peers::cluster_name);
        self->request(worker, caf::infinite, describe_atom::value)
            .then(
                [self, promise, cluster, f = *std::move(f)](types::WorkerRecord& record) mutable {
                  ctl::ListWorkersResponse out;
                  if (matches(f, record)) *out.add_record() = record;
                  if (!cluster) {
                    promise.deliver(std::move(out));
                    return;
                  }
                  self->request(cluster, caf::infinite, list_atom::value)
                      .then(
                          [promise, out, f](const cluster_view& view) mutable {
                            for (const auto& n : view.nodes) {
                              bool there = n.state == "up" || n.state == "draining";
                              if (there && n.info.role != node_role::coordinator && matches(f, n.info.record))
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
