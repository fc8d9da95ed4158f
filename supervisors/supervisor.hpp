// Supervision: which children to start, in which order, and what to do when one of them dies.
//
// A supervisor holds policy and child handles, never domain work. It starts its children in order,
// stops them in reverse order (each asked to shut down, given its time, then killed), restarts them by
// strategy, and gives up, taking everything below it down, when restarts come too fast; its own parent
// then decides. Present handles are published in an actor_registry, because a restart is a new handle.
// Runs on CAF's scheduler and reads time from the actor clock only.
// Source of the semantics: Erlang/OTP, supervisor behaviour and "Supervision Principles".
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <caf/actor.hpp>
#include <caf/all.hpp>

#include "messages/actor_registry.hpp"

namespace kiln::supervision {

enum class strategy {
  one_for_one,         // only the dead child is started again
  one_for_all,         // all are stopped and started again
  rest_for_one,        // the dead one and those started after it
  simple_one_for_one,  // any number of equal children, started on demand, stopped in parallel
};

enum class restart {
  permanent,  // always started again
  transient,  // started again unless it ended normally
  temporary,  // never started again
};

/// Starts one child. `arguments` is empty except for simple_one_for_one. An error is a failed start.
using start_function =
    std::function<caf::expected<caf::actor>(caf::event_based_actor* parent, const caf::message& arguments)>;

/// No time-out: the supervisor waits for ever (for children that are supervisors).
inline constexpr std::chrono::milliseconds no_timeout{-1};

struct child_spec {
  std::string id;  // unique among siblings; the registry name
  start_function start;
  restart policy = restart::permanent;
  /// How long a child may take to shut down before it is killed.
  std::chrono::milliseconds shutdown_timeout{5'000};
};

struct supervisor_options {
  std::string name;  // for logs
  strategy how = strategy::one_for_one;
  /// More than `intensity` restarts within `period` and the supervisor gives up.
  int intensity = 1;
  std::chrono::milliseconds period{5'000};
  /// In start order. simple_one_for_one takes exactly one: the template.
  std::vector<child_spec> children;
  std::shared_ptr<actor_registry> registry;  // may be null
  /// Told of each child that has started, when it is in the registry; on a scheduler thread. May be empty.
  std::function<void(const std::string& id)> started = {};
};

/// One child as `children_atom` reports it.
struct child_report {
  std::string id;
  bool alive = false;
  std::uint32_t restarts = 0;
};

template <class Inspector>
auto inspect(Inspector& f, child_report& x) {
  return f(x.id, x.alive, x.restarts);
}

using start_child_atom = caf::atom_constant<caf::atom("startchild")>;
using adopt_atom = caf::atom_constant<caf::atom("adopt")>;
using children_atom = caf::atom_constant<caf::atom("children")>;

/// Spawns a supervisor; its parent, if any, links to it as to any child.
/// It answers (start_child_atom, message) → caf::actor and takes (adopt_atom, caf::actor), a child that
/// somebody else has spawned and that is never restarted [both simple_one_for_one only]; and
/// (children_atom) → std::vector<child_report>. Ask it to stop with an exit message: it quits with
/// that reason once everything below is down, or with kiln::errc::aborted when it gives up.
caf::actor spawn_supervisor(caf::actor_system& system, supervisor_options options);

/// A child_spec for a nested supervisor: permanent, no stop time-out.
child_spec nested(supervisor_options options);

}  // namespace kiln::supervision

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(std::vector<kiln::supervision::child_report>)
