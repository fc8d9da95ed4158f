// Asking an actor from a thread that is none of CAF's and may block.
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <utility>

#include <caf/all.hpp>

#include "actors/spawn_outside.hpp"
#include "base/result.hpp"
#include "messages/actor_error.hpp"

namespace kiln::actors {

/// Asks, and waits for the answer, of these types; `answered` gets it before this returns. Otherwise its
/// error: unavailable when the system ends meanwhile. `time` may be caf::infinite. The system must outlive
/// the call.
template <class Handle, class Time, class... Values, class... Args>
status ask_and_wait(caf::actor_system& system, const Handle& target, Time time,
                    std::function<void(Values&...)> answered, Args... args) {
  struct question {
    std::promise<status> outcome;
    bool told = false;
    void tell(status s) {
      if (!std::exchange(told, true)) outcome.set_value(std::move(s));
    }
    ~question() { tell(make_error(errc::unavailable, "the daemon is shutting down")); }
  };
  auto q = std::make_shared<question>();
  auto outcome = q->outcome.get_future();
  // CAF 0.17.6 wants an argument (gateway/transport/ask.hpp).
  spawn_outside(
      system,
      [q, target, time, answered = std::move(answered), args...](caf::event_based_actor* self,
                                                                 caf::unit_t) mutable {
        self->request(target, time, std::move(args)...)
            .then(
                [q, answered = std::move(answered)](Values&... values) {
                  answered(values...);
                  q->tell({});
                },
                [q](caf::error& e) { q->tell(from_caf(e)); });
      },
      caf::unit);
  q.reset();
  return outcome.get();
}

}  // namespace kiln::actors
