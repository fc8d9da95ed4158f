#include "actors/cluster/departure.hpp"

#include <spdlog/spdlog.h>

namespace kiln::actors {

void departure::begin() {
  if (c_.load.draining) return;
  c_.load.draining = true;
  until_ = c_.now() + c_.options.drain_grace;
  spdlog::info("cluster: node {} is draining", c_.name());
  members_.tell_draining();
}

caf::result<bool> departure::begin_and_wait() {
  begin();
  if (c_.has_left) return was_clean_;
  auto promise = c_.self->make_response_promise<bool>();
  waiters_.push_back(promise);
  go_on();
  return promise;
}

void departure::go_on() {
  if (!c_.load.draining || c_.has_left || checking_) return;
  if (c_.now() >= until_) return leave(false);
  if (c_.options.coordinates()) return;
  const auto& links = members_.links();
  if (links.empty()) return leave(true);
  checking_ = true;
  auto missing = std::make_shared<std::size_t>(links.size());
  auto clients = std::make_shared<std::uint64_t>(0);
  auto one_less = [this, missing, clients] {
    if (--*missing > 0) return;
    checking_ = false;
    if (*clients == 0 && !c_.has_left) leave(true);
  };
  for (const auto& [n, l] : links)
    c_.self->request(l.our_worker, caf::infinite, list_atom::value)
        .then(
            [clients, one_less](std::uint64_t n) {
              *clients += n;
              one_less();
            },
            [one_less](caf::error&) { one_less(); });
}

void departure::leave(bool clean) {
  c_.has_left = true;
  was_clean_ = clean;
  spdlog::info("cluster: node {} is drained{} and leaves", c_.name(),
               clean ? "" : " as far as its time allowed");
  members_.end_all("this node was drained and has left", "it was drained and has left");
  for (auto& p : std::exchange(waiters_, {})) p.deliver(clean);
}

}  // namespace kiln::actors
