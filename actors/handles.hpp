// Small helpers every actor here uses.
#pragma once

#include <memory>
#include <utility>

#include <caf/all.hpp>

#include "base/result.hpp"
#include "messages/actor_error.hpp"

namespace kiln::actors {

/// State of an actor whose class stays in its .cpp file: `data` owns it, and it goes with the actor.
struct actor_state {
  const char* name = "kiln";
  std::shared_ptr<void> data;

  template <class T, class... Args>
  T& hold(const char* actor_name, Args&&... args) {
    name = actor_name;
    auto owned = std::make_shared<T>(std::forward<Args>(args)...);
    data = owned;
    return *owned;
  }
};

/// The handle of a running actor under one of the interfaces it implements.
template <class Handle>
Handle handle_of(caf::local_actor* self) {
  return caf::actor_cast<Handle>(caf::strong_actor_ptr{self->ctrl()});
}

/// Delivers a value or the error that took its place.
template <class Promise, class T>
void answer(Promise& promise, result<T> outcome) {
  if (outcome.ok()) {
    promise.deliver(*std::move(outcome));
  } else {
    promise.deliver(to_caf(std::move(outcome).error()));
  }
}

/// Delivers an error to every promise of a container and empties it.
template <class Promises>
void refuse_all(Promises& promises, const error& e) {
  for (auto& p : std::exchange(promises, {})) p.deliver(to_caf(e));
}

}  // namespace kiln::actors
