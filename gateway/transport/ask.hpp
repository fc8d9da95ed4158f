// From a gRPC call to an actor and back. Each call has a small actor of its own: it is the requester, so
// that cancelling the call is the requester going down, and it sees its target die.
// Include only from .cpp files of gateway/ (CAF and gRPC at once).
#pragma once

#include <caf/all.hpp>

#include <functional>
#include <memory>
#include <utility>

#include "actors/spawn_outside.hpp"
#include "gateway/transport/reactors.hpp"
#include "messages/actor_error.hpp"

namespace kiln::gateway {

/// The current handle of a restartable actor; null while it is down.
template <class Handle>
using handle_source = std::function<Handle()>;

/// Fails the call when it is dropped without an answer, e.g. because an actor died with it.
template <class Call>
class call_guard {
 public:
  explicit call_guard(std::shared_ptr<Call> call) : call_(std::move(call)) {}
  call_guard(const call_guard&) = delete;
  call_guard& operator=(const call_guard&) = delete;
  ~call_guard() { call_->fail(make_error(errc::unavailable, "the daemon dropped the call")); }
  Call* operator->() const { return call_.get(); }
  const std::shared_ptr<Call>& get() const { return call_; }

 private:
  std::shared_ptr<Call> call_;
};

template <class Handle>
void watch_target(caf::event_based_actor* self, const Handle& target, std::function<void(error)> fail) {
  auto plain = caf::actor_cast<caf::actor>(target);
  self->monitor(plain);
  self->set_down_handler([self, fail](caf::down_msg& down) {
    auto why = from_caf(down.reason);
    fail(make_error(errc::unavailable, why.message.empty() || !down.reason
                                           ? "the daemon's service for this call is restarting"
                                           : why.message));
    self->quit();
  });
  self->set_exit_handler([self, plain](caf::exit_msg& exit) {
    self->demonitor(plain);
    self->quit(std::move(exit.reason));
  });
}

/// One request on behalf of a call, by a requester that ends with the answer; `answered` takes it.
template <class Call, class Response, class Handle, class Answered, class... Args>
void request_for(caf::event_based_actor* self, const std::shared_ptr<call_guard<Call>>& guard,
                 const Handle& target, Answered answered, Args&&... args) {
  watch_target(self, target, [guard](error e) { (*guard)->fail(e); });
  auto plain = caf::actor_cast<caf::actor>(target);
  self->request(target, caf::infinite, std::forward<Args>(args)...)
      .then(
          [=](Response& response) {
            answered(*guard->get(), response);
            self->demonitor(plain);
            self->quit();
          },
          [=](caf::error& e) {
            (*guard)->fail(from_caf(e));
            self->demonitor(plain);
            self->quit();
          });
}

/// Sends args to target as a request of its own and finishes the call with the answer. The requester goes
/// down when the client does.
template <class Call, class Response, class Handle, class... Args>
void ask(caf::actor_system& system, std::shared_ptr<Call> call, const Handle& target,
         std::function<void(Call&, Response&)> answered, Args... args) {
  if (!target) {
    call->fail(make_error(errc::unavailable, "the daemon's service for this call is not running"));
    return;
  }
  auto guard = std::make_shared<call_guard<Call>>(call);
  // An argument, if a meaningless one: without any CAF 0.17.6 dereferences a null pointer, which library
  // assertions end.
  auto requester = actors::spawn_outside(
      system,
      [=](caf::event_based_actor* self, caf::unit_t) mutable {
        request_for<Call, Response>(self, guard, target, answered, std::move(args)...);
      },
      caf::unit);
  call->on_cancel([requester] { caf::anon_send_exit(requester, caf::exit_reason::user_shutdown); });
}

/// The common case: a unary call whose answer is the actor's answer.
template <class Response, class Handle, class... Args>
void ask_unary(caf::actor_system& system, std::shared_ptr<unary_call<Response>> call, const Handle& target,
               Args... args) {
  ask<unary_call<Response>, Response>(
      system, std::move(call), target, [](unary_call<Response>& c, Response& r) { c.succeed(std::move(r)); },
      std::move(args)...);
}

}  // namespace kiln::gateway
