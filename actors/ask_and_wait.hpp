// Asking an actor from a thread that is none of CAF's and may block. Whoever spawns in CAF 0.17.6 (a caf::scoped_actor,
// too) leaves a reference to the system's logger with its thread, and the system does not end before that has gone.
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <utility>

#include <caf/all.hpp>
#include <caf/logger.hpp>

#include "base/result.hpp"
#include "messages/actor_error.hpp"

namespace kiln::actors {

/// For a thread of a pool that has spawned: it keeps nothing of the system.
inline void leave_system() { caf::logger::set_current_actor_system(nullptr); }

/// Asks, and waits for the answer, of these types; `answered` gets it before this returns. Otherwise its error:
/// unavailable when the system ends meanwhile. `time` may be caf::infinite. The system must outlive the call.
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
  system.spawn([q, target, time, answered = std::move(answered), args...](caf::event_based_actor* self, caf::unit_t) mutable {
    self->request(target, time, std::move(args)...)
        .then(
            [q, answered = std::move(answered)](Values&... values) {
              answered(values...);
              q->tell({});
            },
            [q](caf::error& e) { q->tell(from_caf(e)); });
  }, caf::unit);  // CAF 0.17.6 wants an argument (gateway/ask.hpp)
  leave_system();
  q.reset();
  return outcome.get();
}

}  // namespace kiln::actors
