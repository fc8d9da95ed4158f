// One question to all nodes that are linked, those aside that missed the last one. Used on the cluster's
// actor only.
#pragma once

#include <memory>

#include "actors/cluster/membership.hpp"

namespace kiln::actors {

/// `took(node, link id, answer)` gets what each says; `done()` is called once all have answered or their time
/// is over, and who is late counts as slow from then on. False when nobody is asked: nothing is called then.
template <class Answer, class Took, class Done, class... Question>
bool ask_peers(cluster_context& c, membership& members, Took took, Done done, const Question&... question) {
  auto missing = std::make_shared<std::size_t>(0);
  for (const auto& [n, l] : members.links()) *missing += l.slow ? 0 : 1;
  if (*missing == 0) return false;
  auto one_less = [missing, done]() mutable {
    if (--*missing == 0) done();
  };
  for (const auto& [n, l] : members.links()) {
    if (l.slow) continue;
    c.self->request(l.handle, c.options.peer_answer_time, question...)
        .then(
            [took, n = n, id = l.id, one_less](Answer& answer) mutable {
              took(n, id, answer);
              one_less();
            },
            [&members, n = n, id = l.id, one_less](const caf::error& e) mutable {
              if (auto* l = members.find(n, id); l && from_caf(e).code == errc::deadline_exceeded)
                l->slow = true;
              one_less();
            });
  }
  return true;
}

}  // namespace kiln::actors
