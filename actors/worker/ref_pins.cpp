#include "actors/worker/ref_pins.hpp"

namespace kiln::actors {

void ref_pins::keep(const caf::actor_addr& who, const store::ref& r) {
  if (!r) return;
  auto& entry = of_[who][r.id()];
  entry.first = r;
  ++entry.second;
}

caf::result<bool> ref_pins::pin(const std::string& id) {
  if (id.empty() || id == scratch_result) return true;
  // Opening a record of this store is a look-up in memory or the database; no bytes move.
  auto r = w_.options->store->get(id);
  if (!r.ok()) return to_caf(r.error());
  if (auto sender = w_.self->current_sender()) {
    jobs_.meet(sender);
    keep(caf::actor_cast<caf::actor_addr>(sender), *r);
  }
  return true;
}

void ref_pins::release(const std::string& id) {
  auto found = of_.find(caf::actor_cast<caf::actor_addr>(w_.self->current_sender()));
  if (found == of_.end()) return;
  auto at = found->second.find(id);
  if (at == found->second.end() || --at->second.second > 0) return;
  let_go(std::move(at->second.first));
  found->second.erase(at);
}

void ref_pins::drop(const caf::actor_addr& who) {
  auto found = of_.find(who);
  if (found == of_.end()) return;
  let_go(std::move(found->second));
  of_.erase(found);
}

}  // namespace kiln::actors
