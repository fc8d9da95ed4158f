#include "actors/workers.hpp"

#include "actors/cluster/cluster.hpp"
#include "actors/worker_fields.hpp"
#include "messages/told_code.hpp"

namespace kiln::actors {

namespace {

class worker_list {
 public:
  worker_list(workers_impl::pointer self, workers_options options)
      : self_(self), options_(std::move(options)) {}

  caf::result<ctl::ListWorkersResponse> list(const ctl::ListWorkersRequest& request) {
    auto wanted = filter::parse({request.filter().begin(), request.filter().end()});
    if (!wanted.ok()) return to_caf(as_told(wanted.error()));
    auto promise = self_->make_response_promise<ctl::ListWorkersResponse>();
    if (!options_.refresh) {
      own(*std::move(wanted), promise);
      return promise;
    }
    jobs_.run<bool>(
        self_, *options_.io,
        [refresh = options_.refresh]() -> result<bool> {
          refresh();
          return true;
        },
        [this, wanted = *std::move(wanted), promise](result<bool>) { own(wanted, promise); });
    return promise;
  }

  void finish(std::uint64_t job) { jobs_.finish(job); }

 private:
  using answer = caf::typed_response_promise<ctl::ListWorkersResponse>;

  void own(filter wanted, answer promise) {
    // In a cluster the dispatcher would tell of all nodes as one, and wait for them.
    auto worker = options_.peers.local_worker();
    if (!worker) worker = options_.peers.worker();
    if (!worker) {
      promise.deliver(ctl::ListWorkersResponse{});
      return;
    }
    self_->request(worker, caf::infinite, describe_atom::value)
        .then(
            [this, promise, wanted = std::move(wanted)](types::WorkerRecord& record) mutable {
              ctl::ListWorkersResponse out;
              if (wanted.matches(fields_of(record))) *out.add_record() = std::move(record);
              others(std::move(out), std::move(wanted), promise);
            },
            [promise](caf::error& e) mutable { promise.deliver(std::move(e)); });
  }

  void others(ctl::ListWorkersResponse out, filter wanted, answer promise) {
    auto cluster = options_.peers.registry->get<cluster_actor>(peers::cluster_name);
    if (!cluster) {
      promise.deliver(std::move(out));
      return;
    }
    self_->request(cluster, caf::infinite, ask_peers_atom::value, describe_atom::value)
        .then(
            [promise, out, wanted = std::move(wanted)](const cluster_view& view) mutable {
              for (const auto& n : view.nodes) {
                bool there = n.state == "up" || n.state == "draining";
                if (there && n.info.role != node_role::coordinator &&
                    wanted.matches(fields_of(n.info.record)))
                  *out.add_record() = n.info.record;
              }
              promise.deliver(std::move(out));
            },
            [promise, out](caf::error&) mutable { promise.deliver(std::move(out)); });
  }

  workers_impl::pointer self_;
  workers_options options_;
  job_runner jobs_;
};

}  // namespace

workers_impl::behavior_type workers(workers_impl::stateful_pointer<actor_state> self,
                                    workers_options options) {
  auto& list = self->state.hold<worker_list>("workers", self, std::move(options));
  return {
      [&list](list_atom, const ctl::ListWorkersRequest& request) { return list.list(request); },
      [&list](job_done_atom, std::uint64_t job) { list.finish(job); },
  };
}

}  // namespace kiln::actors
