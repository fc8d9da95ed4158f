#include "actors/cluster/remote_worker.hpp"

#include <functional>
#include <map>
#include <type_traits>
#include <vector>

#include "actors/handle_rest.hpp"

namespace kiln::actors {

namespace {

/// The vertices whose progress a request tells of: its own, and those whose results are brought to the disk
/// for it.
template <class T>
std::vector<std::string> vertices_of(const T& request) {
  std::vector<std::string> out;
  if constexpr (requires { request.op.vertex; }) {
    out.push_back(request.op.vertex);
  } else if constexpr (requires { request.vertex; }) {
    out.push_back(request.vertex);
  }
  if constexpr (requires { request.owners; })
    for (const auto& [record, vertex] : request.owners) out.push_back(vertex);
  return out;
}

/// That it began or has ended. The rest is known here, and nobody else's to say.
ctl::Vertex times_of(const ctl::Vertex& told) {
  ctl::Vertex out;
  out.set_digest(told.digest());
  if (told.has_started()) *out.mutable_started() = told.started();
  if (told.has_completed()) *out.mutable_completed() = told.completed();
  return out;
}

struct remote_worker_state {
  remote_worker_impl::pointer self;
  remote_worker_options o;
  std::map<std::string, progress_actor> listeners;  // by the vertex they listen to
  std::map<std::uint64_t, std::function<void(const error&)>> open;
  std::uint64_t last = 0;

  remote_worker_state(remote_worker_impl::pointer actor, remote_worker_options options)
      : self(actor), o(std::move(options)) {
    self->set_down_handler([this](caf::down_msg&) { self->quit(caf::exit_reason::user_shutdown); });
    self->monitor(caf::actor_cast<caf::actor>(o.principal));
    o.principal = nullptr;  // nobody is kept alive by what is done for them
  }

  ~remote_worker_state() { refuse(make_error(errc::cancelled, "context canceled")); }

  void refuse(const error& e) {
    for (auto& [id, answer] : std::exchange(open, {})) answer(e);
  }

  /// The listener of a request is this remote worker: the worker over there talks to nobody else here.
  template <class First, class... Rest>
  void listen(First& first, Rest&... rest) {
    [[maybe_unused]] auto stand_in = [&](auto& part) {
      if constexpr (std::is_same_v<std::decay_t<decltype(part)>, progress_actor>) {
        for (auto& vertex : vertices_of(first)) listeners[vertex] = part;
        part = handle_of<progress_actor>(self);
      }
    };
    (stand_in(rest), ...);
  }

  void hear(ctl::StatusResponse& all) {
    for (const auto& one : all.vertexes())
      if (auto to = listeners.find(one.digest()); to != listeners.end()) {
        ctl::StatusResponse out;
        *out.add_vertexes() = times_of(one);
        self->send(to->second, std::move(out));
      }
    auto take = [&](auto& from, auto add) {
      for (auto& one : from)
        if (auto to = listeners.find(one.vertex()); to != listeners.end()) {
          ctl::StatusResponse out;
          *add(out) = std::move(one);
          self->send(to->second, std::move(out));
        }
    };
    take(*all.mutable_statuses(), [](auto& out) { return out.add_statuses(); });
    take(*all.mutable_logs(), [](auto& out) { return out.add_logs(); });
    take(*all.mutable_warnings(), [](auto& out) { return out.add_warnings(); });
  }

  template <class Reply, class... Parts>
  caf::result<Reply> relay(Parts... parts) {
    listen(parts...);
    auto promise = self->make_response_promise<Reply>();
    auto id = ++last;
    open[id] = [promise](const error& e) mutable { promise.deliver(to_caf(e)); };
    self->request(o.inbound_worker, caf::infinite, std::move(parts)...)
        .then(
            [this, id, promise](Reply& reply) mutable {
              if (open.erase(id) > 0) promise.deliver(std::move(reply));
            },
            [this, id, promise](caf::error& e) mutable {
              if (open.erase(id) > 0) promise.deliver(std::move(e));
            });
    return promise;
  }

  void node_lost() {
    refuse(make_error(errc::unavailable, "node " + o.node + " is gone"));
    self->quit(caf::exit_reason::user_shutdown);
  }
};

}  // namespace

remote_worker_impl::behavior_type remote_worker(remote_worker_impl::stateful_pointer<actor_state> self,
                                                remote_worker_options options) {
  auto& state = self->state.hold<remote_worker_state>("remote_worker", self, std::move(options));
  return handle_rest<remote_worker_impl>(
      [&state]<class Reply, class... Parts>(Parts&&... parts) {
        return state.relay<Reply, std::decay_t<Parts>...>(std::forward<Parts>(parts)...);
      },
      [&state](auto&&... parts) { state.self->send(state.o.inbound_worker, std::move(parts)...); },
      [&state](ctl::StatusResponse& told) { state.hear(told); },
      [&state](node_lost_atom) { state.node_lost(); });
}

}  // namespace kiln::actors
