// What the membership actor may be asked, what it does when time passes, and what it tells others on this
// node.
#include "actors/cluster/cluster.hpp"

#include <algorithm>

#include "actors/cluster/cluster_state.hpp"
#include "actors/progress.hpp"
#include "base/duration.hpp"

namespace kiln::actors {

namespace cfg = configs::cluster;

cluster_state::cluster_state(cluster_impl::pointer self, cluster_options options)
    : self_(self), options_(std::move(options)), random_(options_.seed), since_ns_(unix_now_ns()) {
  for (const auto& seed : options_.seeds) seeds_[seed];
}

cluster_state::~cluster_state() {
  for (auto& [name, l] : links_) caf::anon_send_exit(l.our_worker, caf::exit_reason::user_shutdown);
  for (auto& [id, d] : greetings_) caf::anon_send_exit(d, caf::exit_reason::user_shutdown);
  auto gone = ending_.for_waiters(make_error(errc::unavailable, "the cluster actor is shutting down"));
  refuse_all(leavers_, gone);
  for (auto& [id, p] : questions_) p.deliver(to_caf(gone));
}

cluster_impl::behavior_type cluster_state::behavior() {
  ending_.watch(self_, "the cluster actor");
  self_->set_down_handler([this](caf::down_msg& m) { down(m); });
  tick();
  return {
      [this](hello_atom, link_hello& hello, const caf::strong_actor_ptr& who,
             const peer_worker_actor& inbound_worker) { return on_handshake(hello, who, inbound_worker); },
      [this](link_heartbeat& heartbeat) { return take_heartbeat(heartbeat); },
      [this](cache_query& q) { return answer(q); },
      [this](drain_atom) { return drain(); },
      [this](leave_atom, std::uint64_t id, const std::string& reason) {
        if (auto* l = link_of_sender(id)) end(*l, short_text(reason));
      },
      [this](ask_peers_atom, cache_query& q) { return ask_peers(q); },
      [this](join_atom, const members_listener& who) { add_listener(who); },
      [this](list_atom) { return view(); },
      [this](drain_atom, const std::string& name) { return drain_node(name); },
      [this](drain_atom, done_atom) { return drain_and_wait(); },
      [this](job_done_atom, std::uint64_t id) { jobs_.finish(id); },
      [this](heartbeat_atom) { tick(); },
  };
}

std::string cluster_state::short_text(std::string text) {
  if (text.size() > cfg::reason_bytes_max) text.resize(cfg::reason_bytes_max);
  return text;
}

// Time.

void cluster_state::tick() {
  self_->delayed_send(handle_of<cluster_impl>(self_), options_.heartbeat_interval, heartbeat_atom::value);
  end_dead_links();
  measure();
  for (auto& [n, l] : links_) heartbeat(l);
  resolve_seeds();
  dial_routes();
  forget_old();
  if (draining_) check_drained();
}

void cluster_state::end_dead_links() {
  std::vector<std::string> dead;
  for (const auto& [n, l] : links_)
    if (now() - l.heard > options_.dead_after) dead.push_back(n);
  for (const auto& n : dead)
    end(links_.at(n), "no heartbeat for " + format_duration(options_.dead_after.count()));
}

void cluster_state::measure() {
  auto worker = options_.worker();
  if (worker && !asking_worker_) {
    asking_worker_ = true;
    self_->request(worker, caf::infinite, load_count_atom::value)
        .then(
            [this](const worker_load& l) {
              asking_worker_ = false;
              load_.running = l.running;
              load_.waiting = l.waiting;
            },
            [this](caf::error&) { asking_worker_ = false; });
  }
  if (options_.counters && !counting_) {
    counting_ = true;
    jobs_.run<node_load>(
        self_, *options_.io, [counters = options_.counters]() -> result<node_load> { return counters(); },
        [this](result<node_load> counted) {
          counting_ = false;
          if (!counted.ok()) return;
          load_.bytes_in = counted->bytes_in;
          load_.bytes_out = counted->bytes_out;
          load_.refs = counted->refs;
          load_.disk_free = counted->disk_free;
        });
  }
}

// What others on this node want to know.

void cluster_state::add_listener(const members_listener& who) {
  if (listeners_.emplace(who.address(), who).second) self_->monitor(who);
  for (const auto& [n, l] : links_) {
    self_->send(who, join_atom::value, l.info, l.their_worker);
    self_->send(who, l.load, n);
  }
}

cluster_view cluster_state::view() const {
  cluster_view out;
  out.nodes.push_back({options_.self, own_load(), "self",
                       left_       ? "drained"
                       : draining_ ? "draining"
                                   : "",
                       since_ns_, 0});
  for (const auto& [n, l] : links_)
    out.nodes.push_back(
        {l.info, l.load, l.load.draining ? "draining" : "up", "", l.since_ns, l.round_trip_ns});
  for (const auto& [n, a] : unreachable_)
    out.nodes.push_back({a.info, {}, a.refused ? "refused" : "down", a.reason, a.since_ns, 0});
  for (const auto& [key, r] : refusals_)
    out.nodes.push_back({r.info, {}, "refused", r.reason, r.since_ns, 0});
  for (const auto& [address, r] : routes_) {
    if (!r.node.empty() || r.reason.empty() || r.self) continue;
    node_info unknown;
    unknown.control_address = address;
    out.nodes.push_back({std::move(unknown), {}, r.refused ? "refused" : "down", r.reason, r.since_ns, 0});
  }
  for (const auto& [seed, s] : seeds_) {
    if (s.reason.empty()) continue;
    node_info unknown;
    unknown.control_address = seed;
    out.nodes.push_back({std::move(unknown), {}, "down", s.reason, 0, 0});
  }
  return out;
}

cluster_impl::behavior_type cluster(cluster_impl::stateful_pointer<actor_state> self,
                                    cluster_options options) {
  return self->state.hold<cluster_state>("cluster", self, std::move(options)).behavior();
}

}  // namespace kiln::actors
