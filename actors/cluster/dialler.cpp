#include "actors/cluster/dialler.hpp"

#include <algorithm>

#include <spdlog/spdlog.h>

#include "actors/progress.hpp"
#include "messages/cluster_text.hpp"

namespace kiln::actors {

namespace cfg = configs::cluster;

dialler::dialler(cluster_context& cluster, membership& members)
    : c_(cluster), members_(members), random_(cluster.options.seed) {
  for (const auto& seed : c_.options.seeds) seeds_[seed];
}

dialler::~dialler() {
  for (auto& [id, w] : greetings_) caf::anon_send_exit(w, caf::exit_reason::user_shutdown);
}

void dialler::route::answered_by(const std::string& who) {
  node = who;
  failures = 0;
  reason.clear();
  refused = false;
}

// Addresses.

dialler::route* dialler::add(const std::string& address, bool wanted) {
  const auto& own = c_.options.self.control_address;
  if (address == own) return nullptr;
  auto found = routes_.find(address);
  if (found == routes_.end()) {
    if (!wanted && routes_.size() >= cfg::addresses_max) return nullptr;
    found = routes_.emplace(address, route{}).first;
    found->second.next = c_.now();
    // Somebody may have told it of us at the same time.
    if (!wanted && own > address) found->second.next += cfg::redial;
  }
  found->second.touched = c_.now();
  return &found->second;
}

void dialler::learn(const std::vector<std::string>& addresses) {
  std::size_t taken = 0;
  for (const auto& address : addresses) {
    if (++taken > cfg::neighbours_max) return;
    if (address.size() <= cfg::address_bytes_max && parse_host_port(address)) add(address, false);
  }
}

void dialler::opened(const node_info& node) {
  if (auto* r = add(node.control_address, true)) r->answered_by(node.name);
}

void dialler::ended(const node_info& node) {
  // The smaller address dials first, so that two do not dial each other.
  auto first = c_.options.self.control_address < node.control_address;
  for (auto& [address, r] : routes_)
    if (r.node == node.name) {
      r.next = c_.now() + (address == node.control_address && first ? cfg::redial : 2 * cfg::redial);
      r.failures = 0;
      r.touched = c_.now();
    }
}

bool dialler::is_greeting(const std::string& address) const {
  auto found = routes_.find(address);
  return found != routes_.end() && found->second.now == route::phase::greeting;
}

bool dialler::is_linked(const route& r) const { return !r.node.empty() && members_.is_linked(r.node); }

void dialler::forget_old() {
  std::erase_if(routes_, [&](const auto& e) {
    const auto& r = e.second;
    return !r.seed && r.now == route::phase::idle && !is_linked(r) &&
           c_.now() - r.touched > cfg::forget_after;
  });
}

// Looking up and dialling.

void dialler::go_on() {
  if (c_.has_left) return;
  resolve();
  dial();
}

void dialler::resolve() {
  for (auto& [seed, s] : seeds_) {
    if (s.resolving || s.next > c_.now()) continue;
    s.resolving = true;
    c_.jobs.run<std::vector<std::string>>(
        c_.self, *c_.options.dials, [resolve = c_.options.resolve, seed = seed] { return resolve(seed); },
        [this, seed = seed](result<std::vector<std::string>> found) { resolved(seed, std::move(found)); });
  }
}

void dialler::resolved(const std::string& seed, result<std::vector<std::string>> found) {
  auto& s = seeds_.at(seed);
  s.resolving = false;
  s.next = c_.now() + (found.ok() ? cfg::resolve_interval : cfg::resolve_retry);
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
    if (auto* r = add(address, s.addresses.size() <= cfg::neighbours_max)) r->seed = true;
  dial();
}

void dialler::dial() {
  if (c_.has_left) return;
  std::set<std::string> under_way;  // nodes that are being dialled at another of their addresses
  for (const auto& [address, r] : routes_)
    if (r.now != route::phase::idle && !r.node.empty()) under_way.insert(r.node);
  for (auto& [address, r] : routes_) {
    if (r.now != route::phase::idle || r.self || r.next > c_.now() || is_linked(r)) continue;
    if (!r.node.empty() && !under_way.insert(r.node).second) continue;
    r.now = route::phase::dialling;
    c_.jobs.run<node_actor>(
        c_.self, *c_.options.dials, [dial = c_.options.dial, address = address] { return dial(address); },
        [this, address = address](result<node_actor> reached) {
          if (!reached.ok()) return failed(address, reached.error());
          greet(address, *reached);
        });
  }
}

void dialler::failed(const std::string& address, const error& e) {
  auto found = routes_.find(address);
  if (found == routes_.end()) return;
  auto& r = found->second;
  r.now = route::phase::idle;
  auto wait = cfg::redial;
  for (int i = 0; i < r.failures && wait < cfg::redial_max; ++i) wait *= 2;
  r.next = c_.now() + std::min(wait, cfg::redial_max);
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
  if (r.refused) members_.note_refused_by(r.node, reason);
}

// Our own hello.

void dialler::greet(const std::string& address, const node_actor& handle) {
  auto found = routes_.find(address);
  if (found == routes_.end()) return;
  auto& r = found->second;
  if (c_.has_left || is_linked(r) || !handle) {
    r.now = route::phase::idle;
    return;
  }
  r.now = route::phase::greeting;
  r.greeted = ++c_.events;
  auto id = random_();
  auto our_worker = members_.make_inbound();
  greetings_[id] = our_worker;
  c_.self
      ->request(handle, std::chrono::nanoseconds(cfg::dial_time), hello_atom::value,
                link_hello{c_.options.self, id, members_.neighbours()},
                caf::actor_cast<caf::strong_actor_ptr>(c_.self), peer_worker_actor(our_worker))
      .then(
          [this, address, id, handle, our_worker](link_hello& hello, const peer_worker_actor& their_worker) {
            greetings_.erase(id);
            if (!answered(address, id, handle, our_worker, hello, their_worker))
              c_.self->send_exit(our_worker, caf::exit_reason::user_shutdown);
          },
          [this, address, id, our_worker](const caf::error& e) {
            greetings_.erase(id);
            c_.self->send_exit(our_worker, caf::exit_reason::user_shutdown);
            auto why = from_caf(e);
            if (why.code == errc::deadline_exceeded) why.message = "it does not answer";
            failed(address, why);
          });
}

bool dialler::answered(const std::string& address, std::uint64_t id, const node_actor& handle,
                       const inbound_worker_impl& our_worker, link_hello& hello,
                       const peer_worker_actor& their_worker) {
  auto found = routes_.find(address);
  if (found == routes_.end()) return false;
  auto& r = found->second;
  r.now = route::phase::idle;
  std::optional<error> why;
  if (hello.link != id || !their_worker || their_worker.node() != handle.node()) {
    why = make_error(errc::invalid_argument, "its answer to a hello is not one");
  } else if (hello.from.instance == c_.options.self.instance) {
    why = make_error(errc::already_exists, "this node has dialled itself");
  } else {
    why = members_.validate_peer(hello.from, handle.node());
  }
  if (why) {
    c_.self->send(handle, leave_atom::value, id, why->message);
    failed(address, *why);
    return false;
  }
  r.answered_by(hello.from.name);
  // Both greeted each other at once: the link of the smaller name is the one that stays.
  const auto& links = members_.links();
  if (auto other = links.find(hello.from.name); other != links.end() && !other->second.dialled &&
                                                other->second.opened > r.greeted &&
                                                hello.from.name < c_.name())
    return false;
  members_.open(hello, handle, their_worker, our_worker, true);
  learn(hello.neighbours);
  return true;
}

void dialler::show(std::vector<node_view>& rows) const {
  auto add = [&](const std::string& address, const char* state, const std::string& reason,
                 std::int64_t since_ns) {
    node_info unknown;
    unknown.control_address = address;
    rows.push_back({std::move(unknown), {}, state, reason, since_ns, 0});
  };
  for (const auto& [address, r] : routes_)
    if (r.node.empty() && !r.reason.empty() && !r.self)
      add(address, r.refused ? "refused" : "down", r.reason, r.since_ns);
  for (const auto& [seed, s] : seeds_)
    if (!s.reason.empty()) add(seed, "down", s.reason, 0);
}

}  // namespace kiln::actors
