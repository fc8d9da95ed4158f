#include "actors/session/session.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>

namespace kiln {

session_state::~session_state() {
  if (link) link->close(make_error(errc::unavailable, "session " + link->id() + " ended"));
}

session_actor::behavior_type session(session_actor::stateful_pointer<session_state> self,
                                     session_options options) {
  auto& st = self->state;
  st.link = std::move(options.link);
  st.interval = options.interval;
  st.timeout = options.timeout;
  st.failures_max = options.failures_max;
  self->delayed_send(self, st.interval, health_atom::value);
  return {
      [self](health_atom) {
        auto& st = self->state;
        st.asked_at = self->clock().now();
        auto timeout = std::max(st.timeout, st.last_duration * 3 / 2);
        // The link may answer after this actor is gone: the message then goes nowhere.
        st.link->check_health(timeout, [me = caf::actor_cast<session_actor>(self)](status outcome) {
          caf::anon_send(me, health_atom::value, outcome.ok(),
                         outcome.ok() ? std::string{} : outcome.error().message);
        });
      },
      [self](health_atom, bool healthy, const std::string& why) {
        auto& st = self->state;
        st.last_duration =
            std::chrono::duration_cast<std::chrono::milliseconds>(self->clock().now() - st.asked_at);
        st.failures = healthy ? 0 : st.failures + 1;
        if (st.failures >= st.failures_max) {
          spdlog::error("session {}: health check failed fatally: {}", st.link->id(), why);
          st.link->close(make_error(errc::unavailable, "session healthcheck failed fatally: " + why));
          self->quit();
          return;
        }
        if (!healthy)
          spdlog::warn("session {}: health check failed ({} of {}): {}", st.link->id(), st.failures,
                       st.failures_max, why);
        self->delayed_send(self, st.interval, health_atom::value);
      },
      [self](ended_atom) { self->quit(); },
  };
}

}  // namespace kiln
