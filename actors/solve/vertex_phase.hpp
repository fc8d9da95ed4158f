// How far a vertex has come. Pure.
#pragma once

#include <array>
#include <stdexcept>
#include <string>
#include <string_view>

namespace kiln::actors {

enum class vertex_phase {
  idle,     // nobody has asked for anything yet
  keying,   // its cache map is awaited; nothing is known of inputs
  probing,  // the cache map is known; keys of inputs, and what they lead to, are looked up as far as is asked
  collecting,  // a miss: the inputs' results and contents are gathered, and looked up by once more
  claiming,    // all that running needs is known; whether equal work is under way is asked
  following,   // another vertex does equal work; its progress and results are this one's
  running,     // the worker does it
  saving,      // results are there; their keys are being written
  done,        // every output has its result
  failed,      // by the error that every question is answered with; there is no way out
};

inline std::string_view name_of(vertex_phase p) {
  constexpr std::array<std::string_view, 10> names = {"idle",     "keying",    "probing", "collecting",
                                                      "claiming", "following", "running", "saving",
                                                      "done",     "failed"};
  return names[static_cast<std::size_t>(p)];
}

/// Whether one follows on the other. Whoever has its results does not fail any more.
constexpr bool may_follow(vertex_phase from, vertex_phase to) {
  using enum vertex_phase;
  switch (to) {
    case idle: return false;
    case keying: return from == idle;
    // Again by a hit while collecting, by what was followed, and when the result is lost with its node.
    case probing: return from == keying || from == collecting || from == following || from == done;
    // Again when an input is lost with its node, and when whoever was followed does not deliver.
    case collecting: return from == probing || from == claiming || from == following || from == running;
    case claiming: return from == collecting;
    case following: return from == claiming;
    case running: return from == claiming;
    case saving: return from == running;
    case done: return from == saving;
    case failed: return from < saving;
  }
  return false;
}

/// A phase that only moves as may_follow() says; a move to where it is changes nothing.
class vertex_progression {
 public:
  operator vertex_phase() const { return now_; }
  /// std::logic_error for a move there must not be: the state is not what it claims to be, and who has it
  /// should end.
  void move_to(vertex_phase next) {
    if (next == now_) return;
    if (!may_follow(now_, next))
      throw std::logic_error("a vertex cannot be " + std::string(name_of(next)) + " after it was " +
                             std::string(name_of(now_)));
    now_ = next;
  }

 private:
  vertex_phase now_ = vertex_phase::idle;
};

}  // namespace kiln::actors
