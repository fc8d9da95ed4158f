// Links with other nodes: who may have one, the hello of who dials us, heartbeats, and how a link ends.
#include <algorithm>

#include <spdlog/spdlog.h>

#include "actors/cluster/cluster_state.hpp"
#include "actors/progress.hpp"

namespace kiln::actors {

namespace cfg = configs::cluster;

cluster_state::link* cluster_state::link_named(const std::string& n, std::uint64_t id) {
  auto found = links_.find(n);
  return found == links_.end() || found->second.id != id ? nullptr : &found->second;
}

cluster_state::link* cluster_state::link_of_sender(std::uint64_t id) {
  auto sender = caf::actor_cast<caf::actor_addr>(self_->current_sender());
  for (auto& [n, l] : links_)
    if (l.id == id && l.handle.address() == sender) return &l;
  return nullptr;
}

inbound_worker_impl cluster_state::make_inbound() {
  return self_->spawn(inbound_worker,
                      inbound_worker_options{options_.worker, name(), options_.self.role, draining_});
}

std::optional<error> cluster_state::validate_peer(const node_info& info, const caf::node_id& node) {
  if (auto fault = fault_of(info); !fault.empty())
    return make_error(errc::invalid_argument, "not a node of a cluster: " + fault);
  std::optional<error> why;
  if (auto misnamed = options_.misnamed ? options_.misnamed(node, info.name) : ""; !misnamed.empty()) {
    why = make_error(errc::failed_precondition,
                     "the certificate of the node at " + info.control_address + " " + misnamed);
  } else if (info.version != options_.self.version) {
    why = make_error(errc::failed_precondition, "node " + info.name + " runs Kiln " + info.version +
                                                    ", node " + name() + " runs " + options_.self.version +
                                                    ": all nodes of a cluster must run the same version");
  } else if (info.name == name()) {
    why = make_error(errc::failed_precondition, "two nodes are called " + name() + ": the one at " +
                                                    options_.self.control_address + " and the one at " +
                                                    info.control_address);
  } else if (auto found = links_.find(info.name); found != links_.end()) {
    const auto& l = found->second;
    if (l.info.instance != info.instance && now() - l.heard <= options_.dead_after)
      why = make_error(errc::failed_precondition,
                       "two nodes are called " + info.name + ": the one at " + l.info.control_address +
                           ", which is up, and the one at " + info.control_address);
  } else if (links_.size() >= cfg::peers_max) {
    why = make_error(errc::resource_exhausted, "node " + name() + " has all the links it can have");
  }
  if (why) note_refusal(info, why->message);
  return why;
}

void cluster_state::note_refusal(const node_info& info, const std::string& reason) {
  auto [at, fresh] = refusals_.try_emplace({info.name, info.control_address});
  auto& r = at->second;
  if (fresh && refusals_.size() > cfg::refusals_max) {
    refusals_.erase(at);
    return;
  }
  if (r.reason != reason) {
    spdlog::warn("cluster: node {} at {} is refused: {}", info.name, info.control_address, reason);
    r.since_ns = unix_now_ns();
  }
  r = {info, true, reason, r.since_ns, now()};
  r.info.record.Clear();
}

caf::result<link_hello, peer_worker_actor> cluster_state::on_handshake(
    link_hello& hello, const caf::strong_actor_ptr& who, const peer_worker_actor& their_worker) {
  if (hello.from.instance == options_.self.instance)
    return to_caf(make_error(errc::already_exists, "node " + name() + " has dialled itself"));
  if (left_) return to_caf(make_error(errc::unavailable, "node " + name() + " was drained and has left"));
  if (!who || who != self_->current_sender() || !their_worker || their_worker.node() != who->node())
    return to_caf(make_error(errc::invalid_argument, "a hello must come from whom it speaks of"));
  if (auto why = validate_peer(hello.from, who->node())) return to_caf(*why);
  // Both greet each other at once: the link of the smaller name is the one that stays.
  auto own = routes_.find(hello.from.control_address);
  if (own != routes_.end() && own->second.now == route::phase::greeting && name() < hello.from.name)
    return to_caf(make_error(errc::aborted, "node " + name() + " is saying hello itself"));
  auto handle = caf::actor_cast<node_actor>(who);
  auto inbound_worker = make_inbound();
  auto& l = open(hello, handle, their_worker, inbound_worker, false);
  auto id = l.id;
  learn(hello.neighbours);
  return {link_hello{options_.self, id, neighbours()}, handle_cast(inbound_worker)};
}

cluster_state::link& cluster_state::open(const link_hello& hello, const node_actor& handle,
                                         const peer_worker_actor& their_worker,
                                         const inbound_worker_impl& our_worker, bool dialled) {
  if (auto old = links_.find(hello.from.name); old != links_.end())
    end(old->second, "a new link took its place");
  auto n = hello.from.name;
  auto& l = links_[n];
  l.id = hello.link;
  l.opened = ++events_;
  l.dialled = dialled;
  l.info = hello.from;
  l.handle = handle;
  l.their_worker = their_worker;
  l.our_worker = our_worker;
  l.heard = now();
  l.since_ns = unix_now_ns();
  self_->monitor(handle);
  unreachable_.erase(n);
  refusals_.erase({n, l.info.control_address});
  if (auto* r = add_route(l.info.control_address, true)) {
    r->node = n;
    r->failures = 0;
    r->reason.clear();
    r->refused = false;
  }
  spdlog::info("cluster: node {} at {} is up", n, l.info.control_address);
  for (const auto& [address, listener] : listeners_)
    self_->send(listener, join_atom::value, l.info, l.their_worker);
  return l;
}

void cluster_state::end(link& ended, const std::string& reason) {
  auto l = std::move(ended);
  links_.erase(l.info.name);
  spdlog::warn("cluster: node {} is down: {}", l.info.name, reason);
  self_->demonitor(l.handle.address());
  self_->send_exit(l.our_worker, caf::exit_reason::user_shutdown);
  for (const auto& [address, listener] : listeners_) self_->send(listener, leave_atom::value, l.info.name);
  // The smaller address dials first, so that two do not dial each other.
  auto first = options_.self.control_address < l.info.control_address;
  for (auto& [address, r] : routes_)
    if (r.node == l.info.name) {
      r.next = now() + (address == l.info.control_address && first ? cfg::redial : 2 * cfg::redial);
      r.failures = 0;
      r.touched = now();
    }
  auto n = l.info.name;
  unreachable_[n] = {std::move(l.info), false, reason, unix_now_ns(), now()};
}

void cluster_state::down(const caf::down_msg& m) {
  if (listeners_.erase(m.source) > 0) return;
  for (auto& [n, l] : links_)
    if (l.handle.address() == m.source) {
      auto why =
          m.reason == caf::exit_reason::remote_link_unreachable ? "the connection broke" : "it shut down";
      return end(l, why);
    }
}

// Beats.

std::vector<std::string> cluster_state::neighbours() const {
  std::vector<std::string> out;
  for (const auto& [n, l] : links_) out.push_back(l.info.control_address);
  return out;
}

node_load cluster_state::own_load() const {
  auto out = load_;
  out.draining = draining_;
  return out;
}

link_heartbeat cluster_state::heartbeat_of(std::uint64_t id) const { return {id, own_load(), neighbours()}; }

void cluster_state::heartbeat(link& l) {
  if (l.heartbeat_open) return;
  l.heartbeat_open = true;
  auto sent = now();
  self_->request(l.handle, options_.dead_after, heartbeat_of(l.id))
      .then(
          [this, n = l.info.name, id = l.id, sent](link_heartbeat& answer) {
            auto* l = link_named(n, id);
            if (!l) return;
            l->heartbeat_open = false;
            l->round_trip_ns = std::chrono::nanoseconds(now() - sent).count();
            if (l->round_trip_ns <= options_.peer_answer_time.count()) l->slow = false;
            hear(*l, answer);
          },
          [this, n = l.info.name, id = l.id](const caf::error& e) {
            auto* l = link_named(n, id);
            if (!l) return;
            l->heartbeat_open = false;
            if (from_caf(e).code == errc::not_found) end(*l, "it closed the link");
          });
}

caf::result<link_heartbeat> cluster_state::take_heartbeat(link_heartbeat& heartbeat) {
  auto* l = link_of_sender(heartbeat.link);
  if (!l) return to_caf(make_error(errc::not_found, "that link is not open"));
  hear(*l, heartbeat);
  return heartbeat_of(heartbeat.link);
}

void cluster_state::hear(link& l, link_heartbeat& heartbeat) {
  l.heard = now();
  l.load = heartbeat.load;
  // They are added up.
  l.load.running = std::clamp(l.load.running, 0, cfg::slots_max);
  l.load.waiting = std::clamp(l.load.waiting, 0, cfg::slots_max);
  learn(heartbeat.neighbours);
  for (const auto& [address, listener] : listeners_) self_->send(listener, l.load, l.info.name);
}

}  // namespace kiln::actors
