#include "actors/envoy.hpp"

#include <functional>
#include <map>

#include "actors/worker_face.hpp"

namespace kiln::actors {

namespace {

struct envoy_state {
  worker_actor::pointer self = nullptr;
  envoy_options o;
  std::map<std::uint64_t, std::function<void(const error&)>> open;
  std::uint64_t last = 0;

  ~envoy_state() { refuse(make_error(errc::cancelled, "context canceled")); }

  void refuse(const error& e) {
    for (auto& [id, answer] : std::exchange(open, {})) answer(e);
  }

  template <class Reply, class... Parts>
  caf::result<Reply> relay(Parts&&... parts) {
    auto promise = self->make_response_promise<Reply>();
    auto id = ++last;
    open[id] = [promise](const error& e) mutable { promise.deliver(to_caf(e)); };
    self->request(o.door, caf::infinite, std::forward<Parts>(parts)...)
        .then(
            [this, id, promise](Reply& reply) mutable {
              if (open.erase(id) > 0) promise.deliver(std::move(reply));
            },
            [this, id, promise](caf::error& e) mutable {
              if (open.erase(id) > 0) promise.deliver(std::move(e));
            });
    return promise;
  }

  void node_left() {
    refuse(make_error(errc::unavailable, "node " + o.node + " is gone"));
    self->quit(caf::exit_reason::user_shutdown);
  }
};

}  // namespace

worker_actor::behavior_type envoy(worker_actor::stateful_pointer<actor_state> self, envoy_options options) {
  auto& state = self->state.hold<envoy_state>("envoy");
  state.self = self;
  state.o = std::move(options);
  self->set_down_handler([self](caf::down_msg&) { self->quit(caf::exit_reason::user_shutdown); });
  self->monitor(caf::actor_cast<caf::actor>(state.o.principal));
  state.o.principal = nullptr;  // nobody is kept alive by what is done for them
  return worker_face([&state]<class Reply, class... Parts>(Parts&&... parts) {
                       return state.relay<Reply>(std::forward<Parts>(parts)...);
                     },
                     [&state]<class Atom, class Part>(Atom atom, const Part& part) {
                       if constexpr (std::is_same_v<Atom, leave_atom>) {
                         state.node_left();
                       } else {
                         state.self->send(state.o.door, atom, part);
                       }
                     });
}

}  // namespace kiln::actors
