#include "actors/session/session.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace kiln {

namespace {

class session_state {
 public:
  session_state(session_actor::pointer self, session_options options)
      : self_(self), options_(std::move(options)) {
    check_later();
  }
  ~session_state() {
    options_.link->close(make_error(errc::unavailable, "session " + options_.link->id() + " ended"));
  }

  session_actor::behavior_type behavior() {
    return {
        [this](health_atom) { check(); },
        [this](health_atom, bool healthy, const std::string& why) { checked(healthy, why); },
        [this](ended_atom) { self_->quit(); },
    };
  }

 private:
  void check_later() { self_->delayed_send(self_, options_.interval, health_atom::value); }

  void check() {
    asked_at_ = self_->clock().now();
    auto timeout = std::max(options_.timeout, last_duration_ * 3 / 2);
    // The link may answer after this actor is gone: the message then goes nowhere.
    options_.link->check_health(timeout, [me = actors::handle_of<session_actor>(self_)](status outcome) {
      caf::anon_send(me, health_atom::value, outcome.ok(),
                     outcome.ok() ? std::string{} : outcome.error().message);
    });
  }

  void checked(bool healthy, const std::string& why) {
    last_duration_ = std::chrono::duration_cast<std::chrono::milliseconds>(self_->clock().now() - asked_at_);
    failures_ = healthy ? 0 : failures_ + 1;
    if (failures_ >= options_.failures_max) {
      spdlog::error("session {}: health check failed fatally: {}", options_.link->id(), why);
      options_.link->close(make_error(errc::unavailable, "session healthcheck failed fatally: " + why));
      self_->quit();
      return;
    }
    if (!healthy)
      spdlog::warn("session {}: health check failed ({} of {}): {}", options_.link->id(), failures_,
                   options_.failures_max, why);
    check_later();
  }

  session_actor::pointer self_;
  session_options options_;
  int failures_ = 0;
  caf::actor_clock::time_point asked_at_{};
  std::chrono::milliseconds last_duration_{0};
};

}  // namespace

session_actor::behavior_type session(session_actor::stateful_pointer<actors::actor_state> self,
                                     session_options options) {
  return self->state.hold<session_state>("session", self, std::move(options)).behavior();
}

}  // namespace kiln
