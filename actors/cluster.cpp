#include "actors/cluster.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>

#include <spdlog/spdlog.h>

#include "actors/door.hpp"
#include "actors/progress.hpp"
#include "configs/units.hpp"
#include "messages/cluster_text.hpp"

namespace kiln::actors {

namespace {

namespace cfg = configs::cluster;
using time_point = caf::actor_clock::time_point;

/// An open connection with another node, as both sides agreed on it.
struct link {
  std::uint64_t id = 0;
  std::uint64_t opened = 0;  // order of events
  bool dialled = false;      // by this node
  node_info info;
  cluster_actor handle;
  worker_actor remote_door;  // to their worker
  door_impl own_door;        // to ours
  node_load load;
  time_point heard;
  std::int64_t since_ns = 0;
  std::int64_t round_trip_ns = 0;
  bool beating = false;  // a beat is not answered yet
  bool slow = false;     // missed a question: not asked until a beat was quick
};

/// An address to dial.
struct route {
  enum class phase { idle, dialling, greeting };
  phase now = phase::idle;
  bool seed = false;
  bool self = false;     // this node under another name
  bool refused = false;  // by whoever answered
  int failures = 0;      // in a row
  time_point next;       // when to dial
  time_point touched;    // when somebody last spoke of it
  std::uint64_t greeted = 0;  // order of events
  std::string node;           // who answered there
  std::string reason;         // why it failed
  std::int64_t since_ns = 0;  // of the reason
};

struct seed_state {
  time_point next;
  bool resolving = false;
  std::string reason;  // of its failure
  std::set<std::string> addresses;
};

/// A node without a link.
struct absence {
  node_info info;
  bool refused = false;
  std::string reason;
  std::int64_t since_ns = 0;
  time_point touched;
};

std::string short_text(std::string text) {
  if (text.size() > cfg::reason_bytes_max) text.resize(cfg::reason_bytes_max);
  return text;
}

class cluster_state {
 public:
  cluster_state(cluster_impl::pointer self, cluster_options options)
      : self_(self), o_(std::move(options)), random_(o_.seed), since_ns_(unix_now_ns()) {
    for (const auto& seed : o_.seeds) seeds_[seed];
  }

  ~cluster_state() {
    for (auto& [name, l] : links_) caf::anon_send_exit(l.own_door, caf::exit_reason::user_shutdown);
    for (auto& [id, d] : greetings_) caf::anon_send_exit(d, caf::exit_reason::user_shutdown);
    refuse_all(leavers_, make_error(errc::unavailable, "the cluster actor is shutting down"));
    for (auto& [id, p] : questions_) p.deliver(to_caf(make_error(errc::unavailable, "the cluster actor is shutting down")));
  }

  cluster_impl::behavior_type behavior() {
    self_->set_down_handler([this](caf::down_msg& m) { down(m); });
    tick();
    return {
        [this](hello_atom, link_hello& hello, const caf::strong_actor_ptr& who, const worker_actor& door) {
          return greeted(hello, who, door);
        },
        [this](link_beat& beat) { return take_beat(beat); },
        [this](cache_question& q) { return answer(q); },
        [this](drain_atom) { return drain(); },
        [this](leave_atom, std::uint64_t id, const std::string& reason) {
          if (auto* l = link_of_sender(id)) end(*l, short_text(reason));
        },
        [this](ask_peers_atom, cache_question& q) { return ask_peers(q); },
        [this](join_atom, const members_listener& who) { add_listener(who); },
        [this](list_atom) { return view(); },
        [this](drain_atom, const std::string& name) { return drain_node(name); },
        [this](drain_atom, done_atom) { return drain_and_wait(); },
        [this](tick_atom, std::uint64_t id) { jobs_.finish(id); },
        [this](tick_atom) { tick(); },
    };
  }

 private:
  time_point now() const { return self_->clock().now(); }
  const std::string& name() const { return o_.self.name; }

  // Time.

  void tick() {
    self_->delayed_send(handle_of<cluster_impl>(self_), o_.beat_interval, tick_atom::value);
    end_dead_links();
    measure();
    for (auto& [n, l] : links_) beat(l);
    resolve_seeds();
    dial_routes();
    forget_old();
    if (draining_) check_drained();
  }

  void end_dead_links() {
    std::vector<std::string> dead;
    for (const auto& [n, l] : links_)
      if (now() - l.heard > o_.dead_after) dead.push_back(n);
    for (const auto& n : dead)
      end(links_.at(n), "no heartbeat for " + configs::format_duration(o_.dead_after.count()));
  }

  /// What this node has to do and has done.
  void measure() {
    auto worker = o_.worker();
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
    if (o_.counters && !counting_) {
      counting_ = true;
      jobs_.run<node_load>(
          self_, *o_.io, [counters = o_.counters]() -> result<node_load> { return counters(); },
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

  // Beats.

  std::vector<std::string> neighbours() const {
    std::vector<std::string> out;
    for (const auto& [n, l] : links_) out.push_back(l.info.control_address);
    return out;
  }

  node_load own_load() const {
    auto out = load_;
    out.draining = draining_;
    return out;
  }

  link_beat beat_of(std::uint64_t id) const { return {id, own_load(), neighbours()}; }

  void beat(link& l) {
    if (l.beating) return;
    l.beating = true;
    auto sent = now();
    self_->request(l.handle, o_.dead_after, beat_of(l.id))
        .then(
            [this, n = l.info.name, id = l.id, sent](link_beat& answer) {
              auto* l = link_named(n, id);
              if (!l) return;
              l->beating = false;
              l->round_trip_ns = std::chrono::nanoseconds(now() - sent).count();
              if (l->round_trip_ns <= o_.peer_answer_time.count()) l->slow = false;
              hear(*l, answer);
            },
            [this, n = l.info.name, id = l.id](const caf::error& e) {
              auto* l = link_named(n, id);
              if (!l) return;
              l->beating = false;
              if (from_caf(e).code == errc::not_found) end(*l, "it closed the link");
            });
  }

  caf::result<link_beat> take_beat(link_beat& beat) {
    auto* l = link_of_sender(beat.link);
    if (!l) return to_caf(make_error(errc::not_found, "that link is not open"));
    hear(*l, beat);
    return beat_of(beat.link);
  }

  void hear(link& l, link_beat& beat) {
    l.heard = now();
    l.load = beat.load;
    l.load.running = std::max(l.load.running, 0);
    l.load.waiting = std::max(l.load.waiting, 0);
    learn(beat.neighbours);
    for (const auto& [address, listener] : listeners_) self_->send(listener, l.load, l.info.name);
  }

  // Links.

  link* link_named(const std::string& n, std::uint64_t id) {
    auto found = links_.find(n);
    return found == links_.end() || found->second.id != id ? nullptr : &found->second;
  }

  /// The link of that id, if it is the present sender that it leads to.
  link* link_of_sender(std::uint64_t id) {
    auto sender = caf::actor_cast<caf::actor_addr>(self_->current_sender());
    for (auto& [n, l] : links_)
      if (l.id == id && l.handle.address() == sender) return &l;
    return nullptr;
  }

  door_impl make_door() {
    return self_->spawn(door, door_options{o_.worker, name(), o_.self.role, draining_});
  }

  /// Why no link to that node can be; nothing when it can.
  std::optional<error> objection(const node_info& info) {
    if (auto fault = fault_of(info); !fault.empty())
      return make_error(errc::invalid_argument, "not a node of a cluster: " + fault);
    std::optional<error> why;
    if (info.version != o_.self.version) {
      why = make_error(errc::failed_precondition, "node " + info.name + " runs Kiln " + info.version + ", node " + name() +
                                                      " runs " + o_.self.version +
                                                      ": all nodes of a cluster must run the same version");
    } else if (info.name == name()) {
      why = make_error(errc::failed_precondition, "two nodes are called " + name() + ": the one at " +
                                                      o_.self.control_address + " and the one at " +
                                                      info.control_address);
    } else if (auto found = links_.find(info.name); found != links_.end()) {
      const auto& l = found->second;
      if (l.info.instance != info.instance && now() - l.heard <= o_.dead_after)
        why = make_error(errc::failed_precondition, "two nodes are called " + info.name + ": the one at " +
                                                        l.info.control_address + ", which is up, and the one at " +
                                                        info.control_address);
    } else if (links_.size() >= cfg::peers_max) {
      why = make_error(errc::resource_exhausted, "node " + name() + " has all the links it can have");
    }
    if (why) note_refusal(info, why->message);
    return why;
  }

  void note_refusal(const node_info& info, const std::string& reason) {
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

  /// Another node says hello.
  caf::result<link_hello, worker_actor> greeted(link_hello& hello, const caf::strong_actor_ptr& who,
                                                const worker_actor& remote_door) {
    if (hello.from.instance == o_.self.instance)
      return to_caf(make_error(errc::already_exists, "node " + name() + " has dialled itself"));
    if (left_) return to_caf(make_error(errc::unavailable, "node " + name() + " was drained and has left"));
    if (!who || who != self_->current_sender() || !remote_door || remote_door.node() != who->node())
      return to_caf(make_error(errc::invalid_argument, "a hello must come from whom it speaks of"));
    if (auto why = objection(hello.from)) return to_caf(*why);
    // Both greet each other at once: the link of the smaller name is the one that stays.
    auto own = routes_.find(hello.from.control_address);
    if (own != routes_.end() && own->second.now == route::phase::greeting && name() < hello.from.name)
      return to_caf(make_error(errc::aborted, "node " + name() + " is saying hello itself"));
    auto handle = caf::actor_cast<cluster_actor>(who);
    auto door = make_door();
    auto& l = open(hello, handle, remote_door, door, false);
    auto id = l.id;
    learn(hello.neighbours);
    return {link_hello{o_.self, id, neighbours()}, handle_cast(door)};
  }

  static worker_actor handle_cast(const door_impl& door) { return caf::actor_cast<worker_actor>(door); }

  link& open(const link_hello& hello, const cluster_actor& handle, const worker_actor& remote_door,
             const door_impl& own_door, bool dialled) {
    if (auto old = links_.find(hello.from.name); old != links_.end()) end(old->second, "a new link took its place");
    auto n = hello.from.name;
    auto& l = links_[n];
    l.id = hello.link;
    l.opened = ++events_;
    l.dialled = dialled;
    l.info = hello.from;
    l.handle = handle;
    l.remote_door = remote_door;
    l.own_door = own_door;
    l.heard = now();
    l.since_ns = unix_now_ns();
    self_->monitor(handle);
    absent_.erase(n);
    refusals_.erase({n, l.info.control_address});
    if (auto* r = add_route(l.info.control_address, true)) {
      r->node = n;
      r->failures = 0;
      r->reason.clear();
      r->refused = false;
    }
    spdlog::info("cluster: node {} at {} is up", n, l.info.control_address);
    for (const auto& [address, listener] : listeners_)
      self_->send(listener, join_atom::value, l.info, l.remote_door);
    return l;
  }

  /// Ends a link; its door goes, and with it all that came through.
  void end(link& ended, const std::string& reason) {
    auto l = std::move(ended);
    links_.erase(l.info.name);
    spdlog::warn("cluster: node {} is down: {}", l.info.name, reason);
    self_->demonitor(l.handle.address());
    self_->send_exit(l.own_door, caf::exit_reason::user_shutdown);
    for (const auto& [address, listener] : listeners_) self_->send(listener, leave_atom::value, l.info.name);
    // The smaller address dials first, so that two do not dial each other.
    auto first = o_.self.control_address < l.info.control_address;
    for (auto& [address, r] : routes_)
      if (r.node == l.info.name) {
        r.next = now() + (address == l.info.control_address && first ? cfg::redial : 2 * cfg::redial);
        r.failures = 0;
        r.touched = now();
      }
    auto n = l.info.name;
    absent_[n] = {std::move(l.info), false, reason, unix_now_ns(), now()};
  }

  void down(const caf::down_msg& m) {
    if (listeners_.erase(m.source) > 0) return;
    for (auto& [n, l] : links_)
      if (l.handle.address() == m.source) {
        auto why = m.reason == caf::exit_reason::remote_link_unreachable ? "the connection broke" : "it shut down";
        return end(l, why);
      }
  }

  // Whom to dial.

  route* add_route(const std::string& address, bool wanted) {
    if (address == o_.self.control_address) return nullptr;
    auto found = routes_.find(address);
    if (found == routes_.end()) {
      if (!wanted && routes_.size() >= cfg::addresses_max) return nullptr;
      found = routes_.emplace(address, route{}).first;
      found->second.next = now();
      // Somebody may have told it of us at the same time.
      if (!wanted && o_.self.control_address > address) found->second.next += cfg::redial;
    }
    found->second.touched = now();
    return &found->second;
  }

  void learn(const std::vector<std::string>& addresses) {
    std::size_t taken = 0;
    for (const auto& address : addresses) {
      if (++taken > cfg::neighbours_max) return;
      if (address.size() <= cfg::address_bytes_max && parse_host_port(address)) add_route(address, false);
    }
  }

  void resolve_seeds() {
    if (left_) return;
    for (auto& [seed, s] : seeds_) {
      if (s.resolving || s.next > now()) continue;
      s.resolving = true;
      jobs_.run<std::vector<std::string>>(
          self_, *o_.dials, [resolve = o_.resolve, seed = seed] { return resolve(seed); },
          [this, seed = seed](result<std::vector<std::string>> found) { resolved(seed, std::move(found)); });
    }
  }

  void resolved(const std::string& seed, result<std::vector<std::string>> found) {
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

  bool is_linked(const route& r) const { return !r.node.empty() && links_.contains(r.node); }

  void dial_routes() {
    if (left_) return;
    std::set<std::string> under_way;  // nodes that are being dialled at another of their addresses
    for (const auto& [address, r] : routes_)
      if (r.now != route::phase::idle && !r.node.empty()) under_way.insert(r.node);
    for (auto& [address, r] : routes_) {
      if (r.now != route::phase::idle || r.self || r.next > now() || is_linked(r)) continue;
      if (!r.node.empty() && !under_way.insert(r.node).second) continue;
      r.now = route::phase::dialling;
      jobs_.run<cluster_actor>(
          self_, *o_.dials, [dial = o_.dial, address = address] { return dial(address); },
          [this, address = address](result<cluster_actor> reached) {
            if (!reached.ok()) return failed(address, reached.error());
            greet(address, *reached);
          });
    }
  }

  void failed(const std::string& address, const error& e) {
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
    if (auto known = absent_.find(r.node); known != absent_.end() && r.refused) {
      known->second.refused = true;
      known->second.reason = reason;
    }
  }

  void greet(const std::string& address, const cluster_actor& handle) {
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
    auto door = make_door();
    greetings_[id] = door;
    self_->request(handle, std::chrono::nanoseconds(cfg::dial_time), hello_atom::value,
                   link_hello{o_.self, id, neighbours()}, caf::actor_cast<caf::strong_actor_ptr>(self_),
                   handle_cast(door))
        .then(
            [this, address, id, handle, door](link_hello& hello, const worker_actor& remote_door) {
              greetings_.erase(id);
              if (!answered(address, id, handle, door, hello, remote_door))
                self_->send_exit(door, caf::exit_reason::user_shutdown);
            },
            [this, address, id, door](const caf::error& e) {
              greetings_.erase(id);
              self_->send_exit(door, caf::exit_reason::user_shutdown);
              auto why = from_caf(e);
              if (why.code == errc::deadline_exceeded) why.message = "it does not answer";
              failed(address, why);
            });
  }

  /// Our hello was answered; false when no link comes of it.
  bool answered(const std::string& address, std::uint64_t id, const cluster_actor& handle, const door_impl& door,
                link_hello& hello, const worker_actor& remote_door) {
    auto found = routes_.find(address);
    if (found == routes_.end()) return false;
    auto& r = found->second;
    r.now = route::phase::idle;
    bool sound = hello.link == id && remote_door && remote_door.node() == handle.node();
    std::optional<error> why;
    if (!sound) {
      why = make_error(errc::invalid_argument, "its answer to a hello is not one");
    } else if (hello.from.instance == o_.self.instance) {
      why = make_error(errc::already_exists, "this node has dialled itself");
    } else {
      why = objection(hello.from);
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
    if (auto other = links_.find(hello.from.name);
        other != links_.end() && !other->second.dialled && other->second.opened > r.greeted &&
        hello.from.name < name()) {
      return false;
    }
    open(hello, handle, remote_door, door, true);
    learn(hello.neighbours);
    return true;
  }

  void forget_old() {
    std::erase_if(refusals_, [&](const auto& e) { return now() - e.second.touched > cfg::forget_refused_after; });
    std::erase_if(absent_, [&](const auto& e) { return now() - e.second.touched > cfg::forget_after; });
    std::erase_if(routes_, [&](const auto& e) {
      const auto& r = e.second;
      return !r.seed && r.now == route::phase::idle && !is_linked(r) && now() - r.touched > cfg::forget_after;
    });
  }

  // Questions.

  caf::result<cache_facts> answer(cache_question& q) {
    if (q.links.size() > cfg::question_links_max || q.roots.size() > cfg::question_roots_max)
      return to_caf(make_error(errc::invalid_argument, "too large a question"));
    if (!o_.keys || questions_.size() >= cfg::questions_at_once_max)
      return to_caf(make_error(errc::resource_exhausted, "too many questions at a time"));
    auto promise = self_->make_response_promise<cache_facts>();
    auto number = ++events_;
    questions_.emplace(number, promise);
    jobs_.run<cache_facts>(
        self_, *o_.io,
        [keys = o_.keys, n = name(), q = std::move(q)]() -> result<cache_facts> { return answer_question(*keys, n, q); },
        [this, number](result<cache_facts> facts) {
          auto found = questions_.find(number);
          auto promise = std::move(found->second);
          questions_.erase(found);
          actors::answer(promise, std::move(facts));
        });
    return promise;
  }

  /// Everything that several peers answer, without doubles.
  struct gathering {
    cache_facts all;
    std::set<std::pair<std::string, std::string>> results;  // key and id
    std::set<std::pair<std::string, std::string>> links;    // link and child
    std::size_t missing = 0;
  };

  caf::result<cache_facts> ask_peers(cache_question& q) {
    if (q.links.size() > cfg::question_links_max) q.links.resize(cfg::question_links_max);
    if (q.roots.size() > cfg::question_roots_max) q.roots.resize(cfg::question_roots_max);
    auto gathered = std::make_shared<gathering>();
    for (const auto& [n, l] : links_) gathered->missing += l.slow ? 0 : 1;
    if (gathered->missing == 0) return cache_facts{};
    auto promise = self_->make_response_promise<cache_facts>();
    auto one_less = [gathered, promise]() mutable {
      if (--gathered->missing == 0) promise.deliver(std::move(gathered->all));
    };
    for (const auto& [n, l] : links_) {
      if (l.slow) continue;
      self_->request(l.handle, o_.peer_answer_time, q)
          .then(
              [this, n = n, gathered, one_less](cache_facts& facts) mutable {
                merge(*gathered, n, facts);
                one_less();
              },
              [this, n = n, id = l.id, one_less](const caf::error& e) mutable {
                if (auto* l = link_named(n, id); l && from_caf(e).code == errc::deadline_exceeded) l->slow = true;
                one_less();
              });
    }
    return promise;
  }

  void merge(gathering& into, const std::string& peer, cache_facts& facts) const {
    auto fits = [](const std::string& text) { return text.size() <= cfg::id_bytes_max; };
    if (facts.links.size() > cfg::answer_links_max || facts.results.size() > cfg::answer_results_max) {
      spdlog::warn("cluster: node {} answers a question with too much, ignored", peer);
      return;
    }
    for (auto& s : facts.links) {
      const auto& k = s.link;
      if (!fits(k.parent) || !fits(k.digest) || !fits(k.selector) || !fits(s.child)) continue;
      auto identity = k.parent + "\n" + std::to_string(k.input) + "\n" + std::to_string(k.output) + "\n" + k.digest +
                      "\n" + k.selector;
      if (into.links.emplace(std::move(identity), s.child).second) into.all.links.push_back(std::move(s));
    }
    for (auto& r : facts.results) {
      if (!fits(r.key) || !fits(r.id)) continue;
      if (r.id != "scratch") {
        auto located = locate(at_node(peer, r.id));
        if (located.id.empty() || !is_node_name(located.node)) continue;
        r.id = as_seen_by(name(), at_node(peer, r.id));
      }
      if (into.results.emplace(r.key, r.id).second) into.all.results.push_back(std::move(r));
    }
  }

  // Draining.

  bool drain() {
    if (draining_) return true;
    draining_ = true;
    drain_until_ = now() + o_.drain_grace;
    spdlog::info("cluster: node {} is draining", name());
    for (auto& [n, l] : links_) {
      self_->send(l.own_door, drain_atom::value);
      l.beating = false;
      beat(l);
    }
    return true;
  }

  caf::result<bool> drain_node(const std::string& n) {
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

  caf::result<bool> drain_and_wait() {
    drain();
    if (left_) return left_clean_;
    auto promise = self_->make_response_promise<bool>();
    leavers_.push_back(promise);
    check_drained();
    return promise;
  }

  /// Leaves when nobody has anything here any more, or the grace is over.
  void check_drained() {
    if (left_ || checking_drained_) return;
    if (now() >= drain_until_) return leave(false);
    if (o_.coordinates()) return;
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
      self_->request(l.own_door, caf::infinite, list_atom::value)
          .then(
              [clients, one_less](std::uint64_t n) {
                *clients += n;
                one_less();
              },
              [one_less](caf::error&) { one_less(); });
  }

  void leave(bool clean) {
    left_ = true;
    left_clean_ = clean;
    spdlog::info("cluster: node {} is drained{} and leaves", name(), clean ? "" : " as far as its time allowed");
    while (!links_.empty()) {
      auto& l = links_.begin()->second;
      self_->send(l.handle, leave_atom::value, l.id, "it was drained and has left");
      end(l, "this node was drained and has left");
    }
    for (auto& p : std::exchange(leavers_, {})) p.deliver(clean);
  }

  // What others on this node want to know.

  void add_listener(const members_listener& who) {
    if (listeners_.emplace(who.address(), who).second) self_->monitor(who);
    for (const auto& [n, l] : links_) {
      self_->send(who, join_atom::value, l.info, l.remote_door);
      self_->send(who, l.load, n);
    }
  }

  cluster_view view() const {
    cluster_view out;
    out.nodes.push_back({o_.self, own_load(), "self", left_ ? "drained" : draining_ ? "draining" : "", since_ns_, 0});
    for (const auto& [n, l] : links_)
      out.nodes.push_back({l.info, l.load, l.load.draining ? "draining" : "up", "", l.since_ns, l.round_trip_ns});
    for (const auto& [n, a] : absent_)
      out.nodes.push_back({a.info, {}, a.refused ? "refused" : "down", a.reason, a.since_ns, 0});
    for (const auto& [key, r] : refusals_) out.nodes.push_back({r.info, {}, "refused", r.reason, r.since_ns, 0});
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

  cluster_impl::pointer self_;
  cluster_options o_;
  std::mt19937_64 random_;
  job_runner jobs_;
  std::map<std::string, link> links_;  // by name
  std::map<std::string, absence> absent_;
  std::map<std::pair<std::string, std::string>, absence> refusals_;  // by name and address
  std::map<std::string, route> routes_;                              // by address
  std::map<std::string, seed_state> seeds_;
  std::map<std::uint64_t, door_impl> greetings_;  // doors of hellos that are not answered yet
  std::map<caf::actor_addr, members_listener> listeners_;
  std::map<std::uint64_t, caf::typed_response_promise<cache_facts>> questions_;
  std::vector<caf::typed_response_promise<bool>> leavers_;
  node_load load_;
  std::uint64_t events_ = 0;
  std::int64_t since_ns_ = 0;
  time_point drain_until_;
  bool asking_worker_ = false;
  bool counting_ = false;
  bool draining_ = false;
  bool checking_drained_ = false;
  bool left_ = false;
  bool left_clean_ = false;
};

}  // namespace

cluster_impl::behavior_type cluster(cluster_impl::stateful_pointer<actor_state> self, cluster_options options) {
  return self->state.hold<cluster_state>("cluster", self, std::move(options)).behavior();
}

}  // namespace kiln::actors
