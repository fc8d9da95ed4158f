// Joins a streaming call to a listener actor: the listener receives an actor's messages and writes them to
// the client. Include only from .cpp files of gateway/.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "gateway/transport/ask.hpp"
#include "gateway/transport/reactors.hpp"

namespace kiln::gateway {

/// Spawns a listener for `Event`s which it hands to `on_event`, subscribes it with
/// `request(target, args…, listener)`, and ends the call well on `done`. When the client goes, so does the
/// listener; when the target dies, the call fails.
/// `done_on_reply`: the reply to the subscription ends the stream as `done` does.
template <class Listener, class Event, class Call, class Handle, class... Args>
void listen(caf::actor_system& system, std::shared_ptr<Call> call, const Handle& target, bool done_on_reply,
            std::function<void(Call&, Event&)> on_event, Args... args) {
  if (!target) {
    call->fail(make_error(errc::unavailable, "the daemon's service for this call is not running"));
    return;
  }
  auto guard = std::make_shared<call_guard<Call>>(call);
  auto listener = actors::spawn_outside(
      system,
      [=](typename Listener::pointer self, caf::unit_t) mutable -> typename Listener::behavior_type {
        auto plain = caf::actor_cast<caf::actor>(target);
        self->monitor(plain);
        self->set_down_handler([=](caf::down_msg&) {
          (*guard)->fail(make_error(errc::unavailable, "the daemon's service for this call is restarting"));
          self->quit();
        });
        self->set_exit_handler([=](caf::exit_msg& exit) {
          self->demonitor(plain);
          self->quit(std::move(exit.reason));
        });
        auto end = [=] {
          (*guard)->succeed();
          self->demonitor(plain);
          self->quit();
        };
        self->request(target, caf::infinite, std::move(args)..., caf::actor_cast<Listener>(self))
            .then(
                [=](bool) {
                  if (done_on_reply) end();
                },
                [=](caf::error& e) {
                  (*guard)->fail(from_caf(e));
                  self->demonitor(plain);
                  self->quit();
                });
        return {
            [=](Event& event) { on_event(*guard->get(), event); },
            [=](done_atom) { end(); },
        };
      },
      caf::unit);
  call->on_cancel([listener] { caf::anon_send_exit(listener, caf::exit_reason::user_shutdown); });
}

}  // namespace kiln::gateway
