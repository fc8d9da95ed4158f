// The actor of one client session. Owns the tunnel's lifetime and its health timer: a client that stops
// answering loses its tunnel, and with it its place in the session registry. When this actor dies, for
// whatever reason, the tunnel is closed. Knows nothing of gRPC: the tunnel is a session_link.
// May be asked: check now (health_atom), learn a check's outcome, that the tunnel ended (ended_atom).
#pragma once

#include <caf/all.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "actors/handles.hpp"
#include "base/result.hpp"
#include "messages/actor_interfaces.hpp"

namespace kiln {

/// The tunnel to one client, as its actor sees it. Thread-safe; nothing here blocks.
class session_link {
 public:
  virtual ~session_link() = default;
  virtual const std::string& id() const = 0;
  /// Asks the client's health service; `answer` is called exactly once, on any thread.
  virtual void check_health(std::chrono::milliseconds timeout, std::function<void(status)> answer) = 0;
  /// Ends the tunnel and the client's Session call. Idempotent.
  virtual void close(error why) = 0;
};

/// Source: BuildKit session/grpc.go, healthCheckConfig.
struct session_options {
  std::shared_ptr<session_link> link;
  std::chrono::milliseconds interval;  // between an answer and the next check
  std::chrono::milliseconds timeout;   // of one check; 1.5 × the last duration when that is longer
  int failures_max = 2;                // consecutive misses that end the session
};

using health_atom = caf::atom_constant<caf::atom("health")>;
using ended_atom = caf::atom_constant<caf::atom("ended")>;

using session_actor = caf::typed_actor<caf::reacts_to<health_atom>,
                                       /// A check's outcome: whether the client answered, and why not.
                                       caf::reacts_to<health_atom, bool, std::string>,
                                       /// The tunnel ended by itself.
                                       caf::reacts_to<ended_atom>>;

session_actor::behavior_type session(session_actor::stateful_pointer<actors::actor_state> self,
                                     session_options options);

}  // namespace kiln
