#include "actors/cluster/membership.hpp"

#include <algorithm>

#include <spdlog/spdlog.h>

#include "actors/progress.hpp"
#include "base/duration.hpp"
#include "messages/cluster_text.hpp"

namespace kiln::actors {

namespace cfg = configs::cluster;

namespace {

/// What is wrong with a node's introduction; empty when nothing is.
std::string fault_of(const node_info& info) {
  if (!is_node_name(info.name)) return "its name is not one";
  if (info.role != node_role::both && info.role != node_role::coordinator && info.role != node_role::worker)
    return "it has no role";
  if (info.version.size() > cfg::name_bytes_max) return "its version is no version";
  for (const auto* address : {&info.control_address, &info.data_address})
    if (address->size() > cfg::address_bytes_max || !parse_host_port(*address))
      return "it has no valid address";
  if (info.slots < 1 || info.slots > cfg::slots_max)
    return "it claims " + std::to_string(info.slots) + " slots";
  if (info.record.ByteSizeLong() > cfg::record_bytes_max) return "its worker's description is too large";
  return "";
}

}  // namespace

membership::~membership() {
  for (auto& [name, l] : links_) caf::anon_send_exit(l.our_worker, caf::exit_reason::user_shutdown);
}

// Links.

cluster_link* membership::find(const std::string& node, std::uint64_t id) {
  auto found = links_.find(node);
  return found == links_.end() || found->second.id != id ? nullptr : &found->second;
}

cluster_link* membership::link_of_sender(std::uint64_t id) {
  auto sender = caf::actor_cast<caf::actor_addr>(c_.self->current_sender());
  for (auto& [n, l] : links_)
    if (l.id == id && l.handle.address() == sender) return &l;
  return nullptr;
}

std::vector<std::string> membership::neighbours() const {
  std::vector<std::string> out;
  for (const auto& [n, l] : links_) out.push_back(l.info.control_address);
  return out;
}

inbound_worker_impl membership::make_inbound() {
  return c_.self->spawn(inbound_worker, inbound_worker_options{c_.options.worker, c_.name(),
                                                               c_.options.self.role, c_.load.draining});
}

std::optional<error> membership::validate_peer(const node_info& info, const caf::node_id& node) {
  if (auto fault = fault_of(info); !fault.empty())
    return make_error(errc::invalid_argument, "not a node of a cluster: " + fault);
  const auto& o = c_.options;
  std::optional<error> why;
  if (auto misnamed = o.misnamed ? o.misnamed(node, info.name) : ""; !misnamed.empty()) {
    why = make_error(errc::failed_precondition,
                     "the certificate of the node at " + info.control_address + " " + misnamed);
  } else if (info.version != o.self.version) {
    why = make_error(errc::failed_precondition, "node " + info.name + " runs Kiln " + info.version +
                                                    ", node " + c_.name() + " runs " + o.self.version +
                                                    ": all nodes of a cluster must run the same version");
  } else if (info.name == c_.name()) {
    why = make_error(errc::failed_precondition, "two nodes are called " + c_.name() + ": the one at " +
                                                    o.self.control_address + " and the one at " +
                                                    info.control_address);
  } else if (auto found = links_.find(info.name); found != links_.end()) {
    const auto& l = found->second;
    if (l.info.instance != info.instance && c_.now() - l.heard <= o.dead_after)
      why = make_error(errc::failed_precondition,
                       "two nodes are called " + info.name + ": the one at " + l.info.control_address +
                           ", which is up, and the one at " + info.control_address);
  } else if (links_.size() >= cfg::peers_max) {
    why = make_error(errc::resource_exhausted, "node " + c_.name() + " has all the links it can have");
  }
  if (why) note_refusal(info, why->message);
  return why;
}

void membership::note_refusal(const node_info& info, const std::string& reason) {
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
  r = {info, true, reason, r.since_ns, c_.now()};
  r.info.record.Clear();
}

void membership::note_refused_by(const std::string& node, const std::string& reason) {
  auto known = unreachable_.find(node);
  if (known == unreachable_.end()) return;
  known->second.refused = true;
  known->second.reason = reason;
}

cluster_link& membership::open(const link_hello& hello, const node_actor& handle,
                               const peer_worker_actor& their_worker, const inbound_worker_impl& our_worker,
                               bool dialled) {
  if (auto old = links_.find(hello.from.name); old != links_.end())
    end(old->second, "a new link took its place");
  auto n = hello.from.name;
  auto& l = links_[n];
  l.id = hello.link;
  l.opened = ++c_.events;
  l.dialled = dialled;
  l.info = hello.from;
  l.handle = handle;
  l.their_worker = their_worker;
  l.our_worker = our_worker;
  l.heard = c_.now();
  l.since_ns = unix_now_ns();
  c_.self->monitor(handle);
  unreachable_.erase(n);
  refusals_.erase({n, l.info.control_address});
  book_.opened(l.info);
  spdlog::info("cluster: node {} at {} is up", n, l.info.control_address);
  for (const auto& [address, listener] : listeners_)
    c_.self->send(listener, join_atom::value, l.info, l.their_worker);
  return l;
}

void membership::end(cluster_link& ended, const std::string& reason) {
  auto l = std::move(ended);
  links_.erase(l.info.name);
  spdlog::warn("cluster: node {} is down: {}", l.info.name, reason);
  c_.self->demonitor(l.handle.address());
  c_.self->send_exit(l.our_worker, caf::exit_reason::user_shutdown);
  for (const auto& [address, listener] : listeners_) c_.self->send(listener, leave_atom::value, l.info.name);
  book_.ended(l.info);
  auto n = l.info.name;
  unreachable_[n] = {std::move(l.info), false, reason, unix_now_ns(), c_.now()};
}

void membership::end_all(const std::string& reason, const std::string& to_them) {
  while (!links_.empty()) {
    auto& l = links_.begin()->second;
    c_.self->send(l.handle, leave_atom::value, l.id, to_them);
    end(l, reason);
  }
}

// What other nodes say.

caf::result<link_hello, peer_worker_actor> membership::on_handshake(link_hello& hello,
                                                                    const caf::strong_actor_ptr& who,
                                                                    const peer_worker_actor& their_worker) {
  if (hello.from.instance == c_.options.self.instance)
    return to_caf(make_error(errc::already_exists, "node " + c_.name() + " has dialled itself"));
  if (c_.has_left)
    return to_caf(make_error(errc::unavailable, "node " + c_.name() + " was drained and has left"));
  if (!who || who != c_.self->current_sender() || !their_worker || their_worker.node() != who->node())
    return to_caf(make_error(errc::invalid_argument, "a hello must come from whom it speaks of"));
  if (auto why = validate_peer(hello.from, who->node())) return to_caf(*why);
  // Both greet each other at once: the link of the smaller name is the one that stays.
  if (book_.is_greeting(hello.from.control_address) && c_.name() < hello.from.name)
    return to_caf(make_error(errc::aborted, "node " + c_.name() + " is saying hello itself"));
  auto our_worker = make_inbound();
  auto id = open(hello, caf::actor_cast<node_actor>(who), their_worker, our_worker, false).id;
  book_.learn(hello.neighbours);
  return {link_hello{c_.options.self, id, neighbours()}, peer_worker_actor(our_worker)};
}

caf::result<link_heartbeat> membership::take_heartbeat(link_heartbeat& heartbeat) {
  auto* l = link_of_sender(heartbeat.link);
  if (!l) return to_caf(make_error(errc::not_found, "that link is not open"));
  hear(*l, heartbeat);
  return heartbeat_of(heartbeat.link);
}

void membership::closed(std::uint64_t id, const std::string& reason) {
  if (auto* l = link_of_sender(id)) end(*l, short_text(reason));
}

void membership::hear(cluster_link& l, link_heartbeat& heartbeat) {
  l.heard = c_.now();
  l.load = heartbeat.load;
  // They are added up.
  l.load.running = std::clamp(l.load.running, 0, cfg::slots_max);
  l.load.waiting = std::clamp(l.load.waiting, 0, cfg::slots_max);
  book_.learn(heartbeat.neighbours);
  for (const auto& [address, listener] : listeners_) c_.self->send(listener, l.load, l.info.name);
}

// This node.

void membership::send_heartbeat(cluster_link& l) {
  if (l.heartbeat_open) return;
  l.heartbeat_open = true;
  c_.self->request(l.handle, c_.options.dead_after, heartbeat_of(l.id))
      .then(
          [this, n = l.info.name, id = l.id, sent = c_.now()](link_heartbeat& answer) {
            auto* l = find(n, id);
            if (!l) return;
            l->heartbeat_open = false;
            l->round_trip_ns = std::chrono::nanoseconds(c_.now() - sent).count();
            if (l->round_trip_ns <= c_.options.peer_answer_time.count()) l->slow = false;
            hear(*l, answer);
          },
          [this, n = l.info.name, id = l.id](const caf::error& e) {
            auto* l = find(n, id);
            if (!l) return;
            l->heartbeat_open = false;
            if (from_caf(e).code == errc::not_found) end(*l, "it closed the link");
          });
}

void membership::send_heartbeats() {
  for (auto& [n, l] : links_) send_heartbeat(l);
}

void membership::end_dead() {
  std::vector<std::string> dead;
  for (const auto& [n, l] : links_)
    if (c_.now() - l.heard > c_.options.dead_after) dead.push_back(n);
  for (const auto& n : dead)
    end(links_.at(n), "no heartbeat for " + format_duration(c_.options.dead_after.count()));
}

void membership::tell_draining() {
  for (auto& [n, l] : links_) {
    c_.self->send(l.our_worker, drain_atom::value);
    l.heartbeat_open = false;
    send_heartbeat(l);
  }
}

void membership::forget_old() {
  auto is_old = [now = c_.now()](auto after) {
    return [now, after](const auto& entry) { return now - entry.second.touched > after; };
  };
  std::erase_if(refusals_, is_old(cfg::forget_refused_after));
  std::erase_if(unreachable_, is_old(cfg::forget_after));
}

void membership::add_listener(const members_listener& who) {
  if (listeners_.emplace(who.address(), who).second) c_.self->monitor(who);
  for (const auto& [n, l] : links_) {
    c_.self->send(who, join_atom::value, l.info, l.their_worker);
    c_.self->send(who, l.load, n);
  }
}

void membership::down(const caf::down_msg& m) {
  if (listeners_.erase(m.source) > 0) return;
  for (auto& [n, l] : links_)
    if (l.handle.address() == m.source)
      return end(
          l, m.reason == caf::exit_reason::remote_link_unreachable ? "the connection broke" : "it shut down");
}

void membership::show(std::vector<node_view>& rows) const {
  for (const auto& [n, l] : links_)
    rows.push_back({l.info, l.load, l.load.draining ? "draining" : "up", "", l.since_ns, l.round_trip_ns});
  for (const auto& [n, a] : unreachable_)
    rows.push_back({a.info, {}, a.refused ? "refused" : "down", a.reason, a.since_ns, 0});
  for (const auto& [key, r] : refusals_) rows.push_back({r.info, {}, "refused", r.reason, r.since_ns, 0});
}

}  // namespace kiln::actors
