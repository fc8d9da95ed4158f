// Whom to dial: the addresses seeds stand for, those other nodes speak of, when to try again, and our own
// hello.
#include <algorithm>

#include <spdlog/spdlog.h>

#include "actors/cluster/cluster_state.hpp"
#include "actors/progress.hpp"
#include "messages/cluster_text.hpp"

namespace kiln::actors {

namespace cfg = configs::cluster;

cluster_state::route* cluster_state::add_route(const std::string& address, bool wanted) {
  if (address == options_.self.control_address) return nullptr;
  auto found = routes_.find(address);
  if (found == routes_.end()) {
    if (!wanted && routes_.size() >= cfg::addresses_max) return nullptr;
    found = routes_.emplace(address, route{}).first;
    found->second.next = now();
    // Somebody may have told it of us at the same time.
    if (!wanted && options_.self.control_address > address) found->second.next += cfg::redial;
  }
  found->second.touched = now();
  return &found->second;
}

void cluster_state::learn(const std::vector<std::string>& addresses) {
  std::size_t taken = 0;
  for (const auto& address : addresses) {
    if (++taken > cfg::neighbours_max) return;
    if (address.size() <= cfg::address_bytes_max && parse_host_port(address)) add_route(address, false);
  }
}

void cluster_state::resolve_seeds() {
  if (left_) return;
  for (auto& [seed, s] : seeds_) {
    if (s.resolving || s.next > now()) continue;
    s.resolving = true;
    jobs_.run<std::vector<std::string>>(
        self_, *options_.dials, [resolve = options_.resolve, seed = seed] { return resolve(seed); },
        [this, seed = seed](result<std::vector<std::string>> found) { resolved(seed, std::move(found)); });
  }
}

void cluster_state::resolved(const std::string& seed, result<std::vector<std::string>> found) {
  auto& s = seeds_.at(seed);
  s.resolving = false;
  s.next = now() + (found.ok() ? cfg::resolve_interval : cfg::resolve_retry);
  if (!found.ok()) {
    if (s.reason != found.error().message)
      spdlog::warn("cluster: seed {} does not resolve, trying again: {}", seed, found.error().message);
    s.reason = found.error().message;
    return;
  }
  s.reason.clear();
  std::set<std::string> addresses(found->begin(), found->end());
  for (const auto& gone : s.addresses)
    if (auto r = routes_.find(gone); r != routes_.end() && !addresses.contains(gone)) r->second.seed = false;
  s.addresses = std::move(addresses);
  for (const auto& address : s.addresses)
    if (auto* r = add_route(address, s.addresses.size() <= cfg::neighbours_max)) r->seed = true;
  dial_routes();
}

bool cluster_state::is_linked(const route& r) const { return !r.node.empty() && links_.contains(r.node); }

void cluster_state::dial_routes() {
  if (left_) return;
  std::set<std::string> under_way;  // nodes that are being dialled at another of their addresses
  for (const auto& [address, r] : routes_)
    if (r.now != route::phase::idle && !r.node.empty()) under_way.insert(r.node);
  for (auto& [address, r] : routes_) {
    if (r.now != route::phase::idle || r.self || r.next > now() || is_linked(r)) continue;
    if (!r.node.empty() && !under_way.insert(r.node).second) continue;
    r.now = route::phase::dialling;
    jobs_.run<node_actor>(
        self_, *options_.dials, [dial = options_.dial, address = address] { return dial(address); },
        [this, address = address](result<node_actor> reached) {
          if (!reached.ok()) return failed(address, reached.error());
          greet(address, *reached);
        });
  }
}

void cluster_state::failed(const std::string& address, const error& e) {
  auto found = routes_.find(address);
  if (found == routes_.end()) return;
  auto& r = found->second;
  r.now = route::phase::idle;
  auto wait = cfg::redial;
  for (int i = 0; i < r.failures && wait < cfg::redial_max; ++i) wait *= 2;
  r.next = now() + std::min(wait, cfg::redial_max);
  if (e.code == errc::aborted) return;  // the other side says hello
  if (e.code == errc::already_exists) {
    r.self = true;
    return;
  }
  ++r.failures;
  r.refused = e.code == errc::failed_precondition;
  auto reason = short_text(e.message);
  if (r.reason != reason) {
    if (r.failures == 1 || r.refused) spdlog::warn("cluster: no link with {}: {}", address, reason);
    r.since_ns = unix_now_ns();
  }
  r.reason = reason;
  if (auto known = unreachable_.find(r.node); known != unreachable_.end() && r.refused) {
    known->second.refused = true;
    known->second.reason = reason;
  }
}

void cluster_state::greet(const std::string& address, const node_actor& handle) {
  auto found = routes_.find(address);
  if (found == routes_.end()) return;
  auto& r = found->second;
  if (left_ || is_linked(r) || !handle) {
    r.now = route::phase::idle;
    return;
  }
  r.now = route::phase::greeting;
  r.greeted = ++events_;
  auto id = random_();
  auto inbound_worker = make_inbound();
  greetings_[id] = inbound_worker;
  self_
      ->request(handle, std::chrono::nanoseconds(cfg::dial_time), hello_atom::value,
                link_hello{options_.self, id, neighbours()}, caf::actor_cast<caf::strong_actor_ptr>(self_),
                handle_cast(inbound_worker))
      .then(
          [this, address, id, handle, inbound_worker](link_hello& hello,
                                                      const peer_worker_actor& their_worker) {
            greetings_.erase(id);
            if (!answered(address, id, handle, inbound_worker, hello, their_worker))
              self_->send_exit(inbound_worker, caf::exit_reason::user_shutdown);
          },
          [this, address, id, inbound_worker](const caf::error& e) {
            greetings_.erase(id);
            self_->send_exit(inbound_worker, caf::exit_reason::user_shutdown);
            auto why = from_caf(e);
            if (why.code == errc::deadline_exceeded) why.message = "it does not answer";
            failed(address, why);
          });
}

bool cluster_state::answered(const std::string& address, std::uint64_t id, const node_actor& handle,
                             const inbound_worker_impl& inbound_worker, link_hello& hello,
                             const peer_worker_actor& their_worker) {
  auto found = routes_.find(address);
  if (found == routes_.end()) return false;
  auto& r = found->second;
  r.now = route::phase::idle;
  bool sound = hello.link == id && their_worker && their_worker.node() == handle.node();
  std::optional<error> why;
  if (!sound) {
    why = make_error(errc::invalid_argument, "its answer to a hello is not one");
  } else if (hello.from.instance == options_.self.instance) {
    why = make_error(errc::already_exists, "this node has dialled itself");
  } else {
    why = validate_peer(hello.from, handle.node());
  }
  if (why) {
    self_->send(handle, leave_atom::value, id, why->message);
    failed(address, *why);
    return false;
  }
  r.node = hello.from.name;
  r.failures = 0;
  r.reason.clear();
  r.refused = false;
  // Both greeted each other at once: the link of the smaller name is the one that stays.
  if (auto other = links_.find(hello.from.name); other != links_.end() && !other->second.dialled &&
                                                 other->second.opened > r.greeted &&
                                                 hello.from.name < name()) {
    return false;
  }
  open(hello, handle, their_worker, inbound_worker, true);
  learn(hello.neighbours);
  return true;
}

void cluster_state::forget_old() {
  std::erase_if(refusals_,
                [&](const auto& e) { return now() - e.second.touched > cfg::forget_refused_after; });
  std::erase_if(unreachable_, [&](const auto& e) { return now() - e.second.touched > cfg::forget_after; });
  std::erase_if(routes_, [&](const auto& e) {
    const auto& r = e.second;
    return !r.seed && r.now == route::phase::idle && !is_linked(r) && now() - r.touched > cfg::forget_after;
  });
}

}  // namespace kiln::actors
