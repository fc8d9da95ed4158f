#include "cluster_world.hpp"

namespace kiln::test {

using namespace std::chrono_literals;

cluster_world::cluster_world(unsigned seed, int count, int slots, int coordinators) : random(seed) {
  for (int i = 0; i < count; ++i) {
    auto n = std::make_unique<sim_node>();
    n->info.name = std::string(1, static_cast<char>('a' + i));
    n->info.version = "1";
    n->info.control_address = n->info.name + ":1";
    n->info.data_address = n->info.name + ":2";
    n->info.slots = slots;
    if (i < coordinators) n->info.role = node_role::coordinator;
    nodes.push_back(std::move(n));
  }
  for (auto& n : nodes) start(*n);
}

cluster_world::~cluster_world() {
  for (auto& n : nodes)
    if (n->up) crash(*n);
  connections_.clear();
  sched.run();
}

sim_node& cluster_world::named(const std::string& name) {
  return *nodes.at(static_cast<std::size_t>(name.at(0) - 'a'));
}

bool cluster_world::reaches(const std::string& a, const std::string& b) const {
  return a == b || (!cut_.contains(a) && !cut_.contains(b));
}

void cluster_world::start(sim_node& n) {
  n.up = true;
  n.info.instance = random() | 1;
  auto script = n.script = std::make_shared<worker_script>();
  script->refs = n.refs;
  script->serial = n.serial;
  script->hold = true;
  for (const auto& [id, content] : sources)
    script->source_keys[id] = id.starts_with("local://") ? "session:" + id : content;
  auto name = n.info.name;
  // Inputs of other nodes are fetched when the run begins: they must be there, and the way open.
  script->refuse = [this, name](const run_request& r) -> std::optional<error> {
    if (r.op.op.has_source())
      for (const auto& id : r.sessions.ids)
        if (is_remote(id)) violations.push_back("a source runs away from its session");
    if (!r.sessions.ids.empty() && is_remote(r.sessions.ids.front())) ++away;
    for (const auto& input : r.inputs) {
      if (input.empty()) continue;
      auto l = located_id::parse(input);
      if (l.node == name) violations.push_back("node " + name + " is given its own ref as " + input);
      auto& holder = named(l.node.empty() ? name : l.node);
      if (!holder.up || !reaches(name, holder.info.name) || !holder.script->refs.contains(l.id))
        return solver::lost_ref(input, "not to be had");
    }
    return std::nullopt;
  };
  script->evaluate = [this, &n](const run_request& r, const std::string& ref) {
    std::vector<std::string> inputs;
    for (const auto& input : r.inputs) inputs.push_back(value_of.at(placed(n.info.name, input)));
    value_of[placed(n.info.name, ref)] = meaning(r, inputs);
    n.refs.insert(ref);
    n.serial = n.script->serial;
  };
  script->content_of = [this, name](const std::string& ref) {
    return sha256(value_of.at(placed(name, ref)));
  };
  n.worker = system.spawn(fake_worker, script);
  actors::cluster_options o;
  o.self = n.info;
  for (const auto& other : nodes)
    if (other.get() != &n) o.seeds.push_back(other->info.control_address);
  o.dial = [this, name](const std::string& address) { return dial(name, address); };
  o.resolve = [](const std::string& seed) -> result<std::vector<std::string>> { return std::vector{seed}; };
  o.worker = [worker = caf::actor_cast<caf::weak_actor_ptr>(n.worker)] {
    return caf::actor_cast<worker_actor>(worker);
  };
  o.keys = &n.keys;
  o.seed = random();
  o.dials = o.io = io;
  n.cluster = system.spawn(actors::cluster, std::move(o));
  auto cluster = caf::actor_cast<cluster_actor>(n.cluster);
  n.registry->put(actors::peers::cluster_name, caf::actor_cast<caf::actor>(n.cluster));
  n.registry->put(actors::peers::local_worker_name, caf::actor_cast<caf::actor>(n.worker));
  actors::peers peers{n.registry};
  n.step_dispatcher =
      system.spawn(actors::step_dispatcher,
                   actors::step_dispatcher_options{n.info, [peers] { return peers.local_worker(); },
                                                   [peers] { return peers.cluster(); }});
  n.registry->put(actors::peers::worker_name, caf::actor_cast<caf::actor>(n.step_dispatcher));
  n.graph = system.spawn(
      actors::build_graph,
      actors::build_graph_options{.peers = peers, .keys = &n.keys, .io = io, .vertices_at_once = 3});
}

void cluster_world::crash(sim_node& n) {
  n.up = false;
  // The machine is gone at once: its connections end, whatever still waits in its mailboxes.
  std::erase_if(connections_, [&](connection& c) {
    if (c.state->from != n.info.name && c.state->to != n.info.name) return false;
    c.state->cut = true;
    caf::anon_send_exit(c.handle, caf::exit_reason::remote_link_unreachable);
    return true;
  });
  for (auto name :
       {actors::peers::cluster_name, actors::peers::local_worker_name, actors::peers::worker_name})
    n.registry->erase(name);
  auto reason = caf::exit_reason::kill;
  caf::anon_send_exit(n.graph, reason);
  caf::anon_send_exit(n.step_dispatcher, reason);
  caf::anon_send_exit(n.cluster, reason);
  caf::anon_send_exit(n.worker, reason);
  n.graph = nullptr;
  n.step_dispatcher = nullptr;
  n.cluster = nullptr;
  n.worker = nullptr;
  for (auto& h : n.script->held) h.promise = {};
  n.script->held.clear();
  n.script->pins.clear();
  n.script->evaluate = [](const run_request&, const std::string&) {};
}

result<node_actor> cluster_world::dial(const std::string& from, const std::string& address) {
  auto& target = named(address);
  auto& source = named(from);
  if (!target.up || !source.up || !reaches(from, target.info.name))
    return make_error(errc::unavailable, "cannot reach " + address);
  // As CAF does it: two nodes have one connection, whoever dials.
  for (auto& c : connections_)
    if (std::minmax(c.state->from, c.state->to) == std::minmax(from, target.info.name) && !c.state->cut)
      return c.handle;
  auto state = std::make_shared<wire_state>(wire_state{from, target.info.name, false});
  auto handle = system.spawn(wire, state, node_actor(source.cluster), node_actor(target.cluster));
  connections_.push_back({state, handle});
  return handle;
}

void cluster_world::cut_off(sim_node& n) {
  cut_.insert(n.info.name);
  for (auto& c : connections_)
    if (c.state->from == n.info.name || c.state->to == n.info.name) c.state->cut = true;
}

void cluster_world::heal() {
  cut_.clear();
  std::erase_if(connections_, [](connection& c) {
    if (!c.state->cut) return false;
    caf::anon_send_exit(c.handle, caf::exit_reason::remote_link_unreachable);
    return true;
  });
}

bool cluster_world::step() {
  if (sched.jobs.empty()) return false;
  std::swap(sched.jobs.front(), sched.jobs[pick(static_cast<unsigned>(sched.jobs.size()))]);
  return sched.try_run_once();
}

void cluster_world::settle(std::chrono::nanoseconds time) {
  for (auto left = time; left > 0ns; left -= 100ms) {
    run_all();
    pass(100ms);
  }
  run_all();
}

void cluster_world::run_all() {
  for (int steps = 0; step(); ++steps) {
    if (steps < steps_at_once_max) continue;
    std::string busy;
    for (int i = 0; i < 20 && !sched.jobs.empty(); ++i) {
      if (auto* actor = dynamic_cast<caf::local_actor*>(sched.jobs.front()))
        busy += std::string(" ") + actor->name();
      step();
    }
    violations.push_back("messages without end, by" + busy);
    throw std::runtime_error(violations.back());
  }
}

bool cluster_world::finish_one(bool bad) {
  auto total = held();
  if (total == 0) return false;
  auto n = pick(static_cast<unsigned>(total));
  for (auto& node : nodes) {
    if (!node->up) continue;
    if (n < node->script->held.size()) {
      caf::anon_send(node->worker, release_atom::value, (bad ? "fail " : "finish ") + std::to_string(n));
      return true;
    }
    n -= static_cast<unsigned>(node->script->held.size());
  }
  return false;
}

std::size_t cluster_world::held() const {
  std::size_t n = 0;
  for (const auto& node : nodes)
    if (node->up) n += node->script->held.size();
  return n;
}

int cluster_world::runs() const {
  int n = 0;
  for (const auto& node : nodes)
    if (node->script) n += static_cast<int>(node->script->ran.size());
  return n;
}

}  // namespace kiln::test
