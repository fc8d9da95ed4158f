// How an actor comes to its end: asked to, or by a fault. A fault is logged with its reason, and who still
// waits for an answer then is told it. Owned by the actor's state; used on that actor only.
#pragma once

#include <exception>
#include <string>

#include <caf/all.hpp>

#include "base/result.hpp"

namespace kiln::actors {

class ending {
 public:
  /// From now on an exception, an error nobody handles or an exit message ends `self` as CAF has it, and is
  /// known here. `who` names the actor in the log and to clients.
  void watch(caf::scheduled_actor* self, std::string who);

  /// What to tell whoever waits for an answer while the actor goes: `asked` when it was asked to stop, else
  /// `died` with the reason.
  error for_waiters(error asked = make_error(errc::cancelled, "context canceled"),
                    errc died = errc::internal) const;
  /// With which reason to end those who cannot go on without this actor.
  caf::error for_dependants() const;
  /// Whether it was asked to stop.
  bool asked() const { return asked_; }

 private:
  void note(const caf::error& reason, bool known);

  std::string who_ = "actor";
  std::string reason_ = "it was killed";  // a kill passes every handler
  bool asked_ = false;
};

/// As caf::anon_send_exit, with any reason.
void send_exit(const caf::actor& who, const caf::error& reason);

}  // namespace kiln::actors
