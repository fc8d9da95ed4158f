#include "actors/worker/ref_pins.hpp"

#include <optional>

#include "actors/solve/key_store.hpp"

namespace kiln::actors {

void ref_pins::keep(const caf::actor_addr& who, const store::ref& r) {
  if (!r) return;
  auto& entry = of_[who][r.id()];
  entry.first = r;
  ++entry.second;
}

caf::result<bool> ref_pins::pin(const std::string& id) {
  if (id.empty() || id == scratch_result) return true;
  auto who = caf::actor_cast<caf::actor_addr>(w_.self->current_sender());
  struct opened {
    store::ref ref;
    std::optional<error> failure;
  };
  auto answer = jobs_.start<bool, opened>(
      *w_.io, false,
      [o = w_.options, id](std::stop_token) -> result<opened> {
        auto r = o->store->get(id);
        if (!r.ok()) return opened{{}, std::move(r).error()};
        return opened{*std::move(r), std::nullopt};
      },
      [this, id](opened done, const caf::actor_addr& who) -> result<bool> {
        if (done.failure) {
          give_back(who, id);
          return *std::move(done.failure);
        }
        auto found = of_.find(who);
        auto at = found == of_.end() ? held::iterator() : found->second.find(id);
        bool released = found == of_.end() || at == found->second.end();
        if (!released) std::swap(at->second.first, done.ref);
        if (done.ref) jobs_.let_go(std::move(done.ref));  // of nobody any more, or that of another pin
        return true;
      });
  // From now on, so that a release may overtake the answer.
  if (answer.flag != caf::rt_error) ++of_[who][id].second;
  return answer;
}

void ref_pins::release(const std::string& id) {
  give_back(caf::actor_cast<caf::actor_addr>(w_.self->current_sender()), id);
}

void ref_pins::give_back(const caf::actor_addr& who, const std::string& id) {
  auto found = of_.find(who);
  if (found == of_.end()) return;
  auto at = found->second.find(id);
  if (at == found->second.end() || --at->second.second > 0) return;
  jobs_.let_go(std::move(at->second.first));
  found->second.erase(at);
}

void ref_pins::drop(const caf::actor_addr& who) {
  auto found = of_.find(who);
  if (found == of_.end()) return;
  jobs_.let_go(std::move(found->second));
  of_.erase(found);
}

}  // namespace kiln::actors
