#include "actors/cluster/cluster.hpp"

#include "actors/cluster/departure.hpp"
#include "actors/cluster/dialler.hpp"
#include "actors/cluster/load_meter.hpp"
#include "actors/cluster/membership.hpp"
#include "actors/cluster/peer_questions.hpp"
#include "actors/cluster/peer_records.hpp"
#include "actors/ending.hpp"
#include "actors/progress.hpp"

namespace kiln::actors {

namespace {

class cluster_state {
 public:
  cluster_state(cluster_impl::pointer self, cluster_options options) : c_(self, std::move(options)) {
    ending_.watch(self, "the cluster actor");
    self->set_down_handler([this](caf::down_msg& m) { members_.down(m); });
  }

  ~cluster_state() {
    auto gone = ending_.for_waiters(make_error(errc::unavailable, "the cluster actor is shutting down"));
    departure_.refuse_all(gone);
    questions_.refuse_all(gone);
  }

  cluster_impl::behavior_type behavior() {
    go_on();
    return {
        // From other nodes.
        [this](hello_atom, link_hello& hello, const caf::strong_actor_ptr& who,
               const peer_worker_actor& worker) { return members_.on_handshake(hello, who, worker); },
        [this](link_heartbeat& heartbeat) { return members_.take_heartbeat(heartbeat); },
        [this](cache_query& q) { return questions_.answer(q); },
        [this](describe_atom) { return records_.answer(); },
        [this](drain_atom) { return drain(); },
        [this](leave_atom, std::uint64_t link, const std::string& why) { members_.closed(link, why); },
        // From this one.
        [this](ask_peers_atom, cache_query& q) { return questions_.ask(q); },
        [this](ask_peers_atom, describe_atom) { return records_.ask(); },
        [this](join_atom, const members_listener& who) { members_.add_listener(who); },
        [this](list_atom) { return view(); },
        [this](drain_atom, const std::string& node) { return drain_node(node); },
        [this](drain_atom, done_atom) { return departure_.begin_and_wait(); },
        [this](heartbeat_atom) { go_on(); },
        [this](job_done_atom, std::uint64_t id) { c_.jobs.finish(id); },
    };
  }

 private:
  void go_on() {
    c_.self->delayed_send(handle_of<cluster_impl>(c_.self), c_.options.heartbeat_interval,
                          heartbeat_atom::value);
    members_.end_dead();
    meter_.measure();
    members_.send_heartbeats();
    dialler_.go_on();
    members_.forget_old();
    dialler_.forget_old();
    departure_.go_on();
  }

  bool drain() {
    departure_.begin();
    return true;
  }

  caf::result<bool> drain_node(const std::string& node) {
    if (node == c_.name()) return drain();
    const auto& links = members_.links();
    auto found = links.find(node);
    if (found == links.end()) {
      std::string known = c_.name();
      for (const auto& [other, l] : links) known += ", " + other;
      return to_caf(make_error(errc::not_found, "no node called " + node + " is up; there are " + known));
    }
    auto promise = c_.self->make_response_promise<bool>();
    c_.self
        ->request(found->second.handle, std::chrono::nanoseconds(configs::cluster::dial_time),
                  drain_atom::value)
        .then([promise](bool done) mutable { promise.deliver(done); },
              [promise](caf::error& e) mutable { promise.deliver(std::move(e)); });
    return promise;
  }

  cluster_view view() const {
    cluster_view out;
    out.nodes.push_back({c_.options.self, c_.load, "self", departure_.state(), since_ns_, 0});
    members_.show(out.nodes);
    dialler_.show(out.nodes);
    return out;
  }

  cluster_context c_;
  dialler dialler_{c_, members_};
  membership members_{c_, dialler_};
  peer_questions questions_{c_, members_};
  peer_records records_{c_, members_};
  departure departure_{c_, members_};
  load_meter meter_{c_};
  const std::int64_t since_ns_ = unix_now_ns();
  ending ending_;
};

}  // namespace

cluster_impl::behavior_type cluster(cluster_impl::stateful_pointer<actor_state> self,
                                    cluster_options options) {
  return self->state.hold<cluster_state>("cluster", self, std::move(options)).behavior();
}

}  // namespace kiln::actors
