// The network of a simulated cluster: connections between the cluster actors of two nodes, through which
// everything else that one node has of the other is reached. A connection may be slow (its actors run when
// the seed says so), cut (nothing passes any more, and nobody is told) or reset (it ends, and both sides see
// that).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "actors/handle_rest.hpp"
#include "actors/handles.hpp"
#include "messages/actor_cluster.hpp"

namespace kiln::test {

struct wire_state {
  std::string from, to;
  bool cut = false;
};

/// Stands for one actor of the other node towards a worker, as its address does over a real connection.
inline peer_worker_actor::behavior_type wire_requester(
    peer_worker_actor::stateful_pointer<actors::actor_state> self, std::shared_ptr<wire_state> wire,
    peer_worker_actor target, peer_worker_actor inbound_worker, caf::strong_actor_ptr principal) {
  self->set_down_handler([self](caf::down_msg&) { self->quit(); });
  self->monitor(caf::actor_cast<caf::actor>(principal));
  self->monitor(inbound_worker);
  return actors::handle_rest<peer_worker_actor>(
      [self, wire, target]<class Reply, class... Parts>(Parts&&... parts) -> caf::result<Reply> {
        auto promise = self->make_response_promise<Reply>();
        if (wire->cut) return promise;  // never to be answered
        self->request(target, caf::infinite, std::forward<Parts>(parts)...)
            .then(
                [wire, promise](Reply& reply) mutable {
                  if (!wire->cut) promise.deliver(std::move(reply));
                },
                [wire, promise](caf::error& e) mutable {
                  if (!wire->cut) promise.deliver(std::move(e));
                });
        return promise;
      },
      [self, wire, target](auto&&... parts) {
        if (!wire->cut) self->send(target, std::move(parts)...);
      });
}

/// An inbound worker as the other end of the wire has it.
inline peer_worker_actor::behavior_type wire_worker(
    peer_worker_actor::stateful_pointer<actors::actor_state> self, std::shared_ptr<wire_state> wire,
    peer_worker_actor target, node_actor connection) {
  auto& requesters = self->state.hold<std::map<caf::actor_addr, peer_worker_actor>>("wire inbound_worker");
  auto end = connection.address();
  self->set_down_handler([self, &requesters, end](caf::down_msg& m) {
    requesters.erase(m.source);
    if (m.source == end) self->quit();
  });
  self->monitor(connection);
  connection = nullptr;
  auto stand_in = [self, &requesters, wire, target] {
    auto sender = self->current_sender();
    auto [at, fresh] = requesters.try_emplace(caf::actor_cast<caf::actor_addr>(sender));
    if (fresh) {
      at->second =
          self->spawn(wire_requester, wire, target, actors::handle_of<peer_worker_actor>(self), sender);
      self->monitor(caf::actor_cast<caf::actor>(sender));
    }
    return at->second;
  };
  return actors::handle_rest<peer_worker_actor>(
      [self, stand_in]<class Reply, class... Parts>(Parts&&... parts) -> caf::result<Reply> {
        return self->delegate(stand_in(), std::forward<Parts>(parts)...);
      },
      [self, stand_in](auto&&... parts) { self->send(stand_in(), std::move(parts)...); });
}

/// One connection; to each end it is the other node's cluster actor.
class wire_actor_state {
 public:
  wire_actor_state(node_actor::pointer self, std::shared_ptr<wire_state> wire, node_actor from, node_actor to)
      : self_(self), wire_(std::move(wire)), from_(std::move(from)), to_(std::move(to)) {
    self->set_down_handler([self](caf::down_msg&) { self->quit(caf::exit_reason::remote_link_unreachable); });
    self->monitor(from_);
    self->monitor(to_);
  }

  node_actor::behavior_type behavior() {
    return actors::handle_rest<node_actor>(
        [this]<class Reply, class... Parts>(Parts&&... parts) {
          return relay<Reply>(std::forward<Parts>(parts)...);
        },
        [this](auto&&... parts) {
          if (!wire_->cut) self_->send(other(), std::move(parts)...);
        },
        // What the wire stands for at both ends.
        [this](hello_atom a, link_hello& h, const caf::strong_actor_ptr&,
               const peer_worker_actor& inbound_worker) -> caf::result<link_hello, peer_worker_actor> {
          auto target = other();  // before the promise takes the sender
          auto promise = self_->make_response_promise<link_hello, peer_worker_actor>();
          if (wire_->cut) return promise;
          self_
              ->request(target, caf::infinite, a, std::move(h), caf::actor_cast<caf::strong_actor_ptr>(self_),
                        wrap(inbound_worker))
              .then(
                  [this, promise](link_hello& reply, const peer_worker_actor& theirs) mutable {
                    if (!wire_->cut) promise.deliver(std::move(reply), wrap(theirs));
                  },
                  [this, promise](caf::error& e) mutable {
                    if (!wire_->cut) promise.deliver(std::move(e));
                  });
          return promise;
        });
  }

 private:
  node_actor other() {
    return caf::actor_cast<caf::actor_addr>(self_->current_sender()) == from_.address() ? to_ : from_;
  }

  peer_worker_actor wrap(const peer_worker_actor& inbound_worker) {
    return self_->spawn(wire_worker, wire_, inbound_worker, actors::handle_of<node_actor>(self_));
  }

  template <class Reply, class... Parts>
  caf::result<Reply> relay(Parts&&... parts) {
    auto target = other();  // before the promise takes the sender
    auto promise = self_->make_response_promise<Reply>();
    if (wire_->cut) return promise;
    self_->request(target, caf::infinite, std::forward<Parts>(parts)...)
        .then(
            [this, promise](Reply& reply) mutable {
              if (!wire_->cut) promise.deliver(std::move(reply));
            },
            [this, promise](caf::error& e) mutable {
              if (!wire_->cut) promise.deliver(std::move(e));
            });
    return promise;
  }

  node_actor::pointer self_;
  std::shared_ptr<wire_state> wire_;
  node_actor from_, to_;
};

inline node_actor::behavior_type wire(node_actor::stateful_pointer<actors::actor_state> self,
                                      std::shared_ptr<wire_state> state, node_actor from, node_actor to) {
  return self->state.hold<wire_actor_state>("wire", self, std::move(state), std::move(from), std::move(to))
      .behavior();
}

}  // namespace kiln::test
