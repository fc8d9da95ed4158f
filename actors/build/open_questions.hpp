// Requests to an actor whose answers come later, by continuations: whoever still waits when the actor has no
// more to say is told why. Owned by the actor's state; used on that actor only.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "actors/continuation.hpp"
#include "actors/handles.hpp"

namespace kiln::actors {

class open_questions {
 public:
  /// A promise to the sender of the message at hand; `question` gets what keeps it, of which only the first
  /// call counts.
  template <class Reply, class Self>
  caf::result<Reply> ask(Self* self, const std::function<void(continuation<Reply>)>& question) {
    auto promise = self->template make_response_promise<Reply>();
    auto entry = ++last_;
    open_[entry] = [promise](const error& e) mutable { promise.deliver(to_caf(e)); };
    question([this, entry, promise](result<Reply> reply) mutable {
      if (open_.erase(entry) == 1) answer(promise, std::move(reply));
    });
    return promise;
  }
  /// Everybody who waits.
  void refuse(const error& why) {
    for (auto& [entry, tell] : std::exchange(open_, {})) tell(why);
  }

 private:
  std::map<std::uint64_t, std::function<void(const error&)>> open_;
  std::uint64_t last_ = 0;
};

}  // namespace kiln::actors
