// How a node leaves: it takes no new work, waits until nobody has anything here any more, and ends its links.
#include <spdlog/spdlog.h>

#include "actors/cluster/cluster_state.hpp"

namespace kiln::actors {

namespace cfg = configs::cluster;

bool cluster_state::drain() {
  if (draining_) return true;
  draining_ = true;
  drain_until_ = now() + options_.drain_grace;
  spdlog::info("cluster: node {} is draining", name());
  for (auto& [n, l] : links_) {
    self_->send(l.our_worker, drain_atom::value);
    l.heartbeat_open = false;
    heartbeat(l);
  }
  return true;
}

caf::result<bool> cluster_state::drain_node(const std::string& n) {
  if (n == name()) return drain();
  auto found = links_.find(n);
  if (found == links_.end()) {
    std::string known = name();
    for (const auto& [other, l] : links_) known += ", " + other;
    return to_caf(make_error(errc::not_found, "no node called " + n + " is up; there are " + known));
  }
  auto promise = self_->make_response_promise<bool>();
  self_->request(found->second.handle, std::chrono::nanoseconds(cfg::dial_time), drain_atom::value)
      .then([promise](bool done) mutable { promise.deliver(done); },
            [promise](caf::error& e) mutable { promise.deliver(std::move(e)); });
  return promise;
}

caf::result<bool> cluster_state::drain_and_wait() {
  drain();
  if (left_) return left_clean_;
  auto promise = self_->make_response_promise<bool>();
  leavers_.push_back(promise);
  check_drained();
  return promise;
}

void cluster_state::check_drained() {
  if (left_ || checking_drained_) return;
  if (now() >= drain_until_) return leave(false);
  if (options_.coordinates()) return;
  if (links_.empty()) return leave(true);
  checking_drained_ = true;
  auto missing = std::make_shared<std::size_t>(links_.size());
  auto clients = std::make_shared<std::uint64_t>(0);
  auto one_less = [this, missing, clients] {
    if (--*missing > 0) return;
    checking_drained_ = false;
    if (*clients == 0 && !left_) leave(true);
  };
  for (const auto& [n, l] : links_)
    self_->request(l.our_worker, caf::infinite, list_atom::value)
        .then(
            [clients, one_less](std::uint64_t n) {
              *clients += n;
              one_less();
            },
            [one_less](caf::error&) { one_less(); });
}

void cluster_state::leave(bool clean) {
  left_ = true;
  left_clean_ = clean;
  spdlog::info("cluster: node {} is drained{} and leaves", name(),
               clean ? "" : " as far as its time allowed");
  while (!links_.empty()) {
    auto& l = links_.begin()->second;
    self_->send(l.handle, leave_atom::value, l.id, "it was drained and has left");
    end(l, "this node was drained and has left");
  }
  for (auto& p : std::exchange(leavers_, {})) p.deliver(clean);
}

}  // namespace kiln::actors
