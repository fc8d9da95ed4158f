// Equal work is done once: the vertex that claims a key first does it, the others follow.
#include <algorithm>

#include "actors/solve/vertex_state.hpp"
#include "solver/error_details.hpp"

namespace kiln::actors {

void vertex_state::claim() {
  phase_.move_to(phase::claiming);
  if (ignores_cache()) return run();
  claimed_ = true;
  auto key = links_now(0).final_key();
  self_->request(options_.graph, caf::infinite, claim_atom::value, key, handle_of<vertex_actor>(self_))
      .then(
          [this](const vertex_actor& owner) {
            if (phase_ != phase::claiming) return;  // an input was lost meanwhile: it is claimed again
            if (owner == handle_of<vertex_actor>(self_)) return run();
            follow(owner);
          },
          [this](caf::error& e) { fail(wrap(from_caf(e))); });
}

void vertex_state::follow(const vertex_actor& owner) {
  phase_.move_to(phase::following);
  owner_ = owner;
  progress_->follow();
  auto group = progress_->sessions();
  self_->send(owner, join_atom::value, progress_handle(),
              group.ids.empty() ? std::string() : group.ids.front());
  for (auto& [index, out] : outputs_)
    if (!out.result && out.wanted == demand::result) follow_output(owner, index);
}

void vertex_state::follow_output(const vertex_actor& owner, int index) {
  self_->request(owner, caf::infinite, result_atom::value, index)
      .then(
          [this, owner, index](vertex_result& reply) {
            if (reply.ref.empty()) return followed(owner, index, reply);
            self_->request(worker(), caf::infinite, pin_atom::value, reply.ref)
                .then([this, owner, index, reply](bool) { followed(owner, index, reply); },
                      [this, owner, index, ref = reply.ref](caf::error&) {
                        self_->send(owner, lost_atom::value, static_cast<std::int32_t>(index), ref);
                        claim_again(owner);
                      });
          },
          [this, owner](caf::error& e) {
            if (phase_ != phase::following) return;
            auto failure = from_caf(e);
            if (failure.code == errc::cancelled || failure.code == errc::unavailable ||
                !solver::has_detail(failure, solver::vertex_detail_type))
              return claim_again(owner);
            fail_as(e, failure.message, true);
          });
}

void vertex_state::claim_again(const vertex_actor& owner) {
  if (phase_ != phase::following) return;
  self_->send(owner, leave_atom::value, progress_handle());
  // Not at once: inputs may have been lost, and results have been found, since they were gathered.
  phase_.move_to(phase::collecting);
  collect();
}

void vertex_state::followed(const vertex_actor& owner, int index, const vertex_result& reply) {
  if (phase_ != phase::following) return;
  has_run_ = true;
  finish(index, reply);
  bool open = std::any_of(outputs_.begin(), outputs_.end(), [](const auto& entry) {
    return !entry.second.result && entry.second.wanted == demand::result;
  });
  if (open) return;
  self_->send(owner, leave_atom::value, progress_handle());
  progress_->completed("", false);
  // Another output may still be asked for later.
  phase_.move_to(phase::probing);
}

}  // namespace kiln::actors
