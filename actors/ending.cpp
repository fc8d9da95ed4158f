#include "actors/ending.hpp"

#include <spdlog/spdlog.h>

#include "messages/actor_error.hpp"

namespace kiln::actors {

void ending::watch(caf::scheduled_actor* self, std::string who) {
  who_ = std::move(who);
  self->set_exit_handler([this](caf::scheduled_actor* me, caf::exit_msg& m) {
    if (!m.reason) return;                               // somebody linked has ended well
    note(m.reason, wrapped_error(m.reason) != nullptr);  // by for_dependants() of who died first, and said so
    me->quit(m.reason);
  });
  self->set_error_handler([this](caf::scheduled_actor* me, caf::error& e) {
    note(e, false);
    me->quit(e);
  });
  self->set_exception_handler([this](caf::scheduled_actor*, std::exception_ptr& thrown) -> caf::error {
    std::string text = "unknown exception";
    try {
      std::rethrow_exception(thrown);
    } catch (const std::exception& e) {
      text = e.what();
    } catch (...) {
    }
    auto reason = to_caf(make_error(errc::internal, text));
    note(reason, false);
    return reason;
  });
}

void ending::note(const caf::error& reason, bool known) {
  asked_ = reason == caf::exit_reason::user_shutdown;
  if (asked_) return;
  reason_ = from_caf(reason).message;
  if (!known) spdlog::error("{} died: {}", who_, reason_);
}

caf::error ending::for_dependants() const {
  return asked_ ? caf::error{caf::exit_reason::user_shutdown} : to_caf(for_waiters());
}

error ending::for_waiters(error asked, errc died) const {
  if (asked_) return asked;
  return make_error(died, who_ + " died: " + reason_);
}

void send_exit(const caf::actor& who, const caf::error& reason) {
  if (!who) return;
  who->enqueue(nullptr, caf::make_message_id(), caf::make_message(caf::exit_msg{who.address(), reason}),
               nullptr);
}

}  // namespace kiln::actors
