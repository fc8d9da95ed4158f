// Blocking work that others wait for: who asked for it, how to stop it, and its turn. Steps take one of a
// limited number of slots, in order; the requesters of one other node have a bounded number of jobs. Used on
// the worker's actor only.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <stop_token>
#include <string>
#include <utility>

#include "actors/worker/worker_context.hpp"
#include "base/quota.hpp"

namespace kiln::actors {

class job_table {
 public:
  /// `worker` must outlive this.
  explicit job_table(worker_context& worker) : w_(worker) {}

  /// Starts blocking work for the present sender; with a `slot`, when it has its turn. `then` runs on the
  /// actor with its outcome, if the requester is still there, and tells what to answer. resource_exhausted
  /// when the requester's node has too many here.
  template <class Reply, class T>
  caf::result<Reply> start(job_pool& pool, bool slot, std::function<result<T>(std::stop_token)> work,
                           std::function<result<Reply>(T, const caf::actor_addr& requester)> then) {
    auto requester = w_.self->current_sender();  // the promise takes it
    if (!requester) return to_caf(make_error(errc::invalid_argument, "anonymous request"));
    std::shared_ptr<void> permit;
    if (auto node = requester->node(); node != w_.self->node() && !(permit = of_nodes_.enter(node)))
      return to_caf(
          make_error(errc::resource_exhausted,
                     "your node has " + std::to_string(of_nodes_.each_max()) + " jobs here already"));
    meet(requester);
    auto promise = w_.self->template make_response_promise<Reply>();
    auto id = ++last_;
    auto& j = jobs_[id];
    j.requester = caf::actor_cast<caf::actor_addr>(requester);
    met_[j.requester].insert(id);
    j.permit = std::move(permit);
    j.refuse = [promise](const error& e) mutable { promise.deliver(to_caf(e)); };
    auto begin = [this, &pool, id, slot, token = j.stop.get_token(), promise, work = std::move(work),
                  then = std::move(then)]() mutable {
      runner_.run<T>(
          w_.self, pool,
          [token, work = std::move(work)]() -> result<T> {
            if (token.stop_requested()) return make_error(errc::cancelled, "context canceled");
            return work(token);
          },
          [this, id, slot, promise, then = std::move(then)](result<T> outcome) mutable {
            if (slot) leave_slot();
            auto found = jobs_.find(id);
            if (found == jobs_.end()) return let_go(std::move(outcome));  // the requester is gone
            auto asked_by = found->second.requester;
            jobs_.erase(found);
            met_.at(asked_by).erase(id);
            if (outcome.ok()) {
              answer(promise, then(*std::move(outcome), asked_by));
            } else {
              promise.deliver(to_caf(std::move(outcome).error()));
            }
          });
    };
    if (slot) {
      take_slot(id, std::move(begin));
    } else {
      begin();
    }
    return promise;
  }

  /// From now on the worker hears when that actor is gone.
  void meet(const caf::strong_actor_ptr& requester);
  /// It is gone: its jobs are stopped and forgotten. False when it was never met.
  bool drop(const caf::actor_addr& requester);
  /// A job has ended; for (job_done_atom, id).
  void finish(std::uint64_t id) { runner_.finish(id); }
  /// Stops all and answers whoever waits.
  void refuse_all(const error& why);

  worker_load load() const { return {busy_, static_cast<std::int32_t>(waiting_.size())}; }

  /// Letting refs go may remove snapshots: not on the actor.
  template <class T>
  void let_go(T what) {
    w_.io->submit([owned = std::make_shared<T>(std::move(what))]() mutable { owned.reset(); });
  }

 private:
  struct job {
    std::stop_source stop;
    caf::actor_addr requester;
    std::shared_ptr<void> permit;  // of another node's
    std::function<void(const error&)> refuse;
  };
  void take_slot(std::uint64_t id, std::function<void()> begin);
  void leave_slot();

  worker_context& w_;
  job_runner runner_;
  std::map<caf::actor_addr, std::set<std::uint64_t>> met_;  // with their jobs
  std::map<std::uint64_t, job> jobs_;
  std::deque<std::pair<std::uint64_t, std::function<void()>>> waiting_;  // for a slot
  quota<caf::node_id> of_nodes_{w_.options->jobs_of_node_max};
  std::uint64_t last_ = 0;
  int busy_ = 0;
};

}  // namespace kiln::actors
