// A simulated cluster: the real cluster, inbound worker, step dispatcher, remote worker, build_graph and
// vertex actors of several nodes on one deterministic scheduler, over fake workers and the network of
// network.hpp. The seed chooses the next message, and what happens; nothing here waits for real time.
#pragma once

#include <random>

#include "../actors/fakes.hpp"
#include "actors/cluster/cluster.hpp"
#include "actors/cluster/step_dispatcher.hpp"
#include "messages/located_id.hpp"
#include "network.hpp"
#include "solver/error_details.hpp"

namespace kiln::test {

/// What survives a crash of its node, and the actors that do not.
struct sim_node {
  node_info info;
  // On disk.
  memory_cache_keys keys;
  std::set<std::string> refs;
  int serial = 0;
  // Running.
  bool up = false;
  std::shared_ptr<worker_script> script;
  std::shared_ptr<actor_registry> registry = std::make_shared<actor_registry>();
  worker_actor worker;
  actors::cluster_impl cluster;
  actors::step_dispatcher_impl step_dispatcher;
  build_graph_actor graph;
};

/// A ref of a node as one who is none names it.
inline std::string placed(const std::string& node, const std::string& ref) { return retold(ref, node, ""); }

class cluster_world {
 public:
  /// The first `coordinators` of the nodes run no steps.
  explicit cluster_world(unsigned seed, int nodes, int slots, int coordinators = 0);
  ~cluster_world();

  unsigned pick(unsigned n) { return std::uniform_int_distribution<unsigned>(0, n - 1)(random); }
  bool chance(unsigned percent) { return pick(100) < percent; }

  /// One message, of an actor chosen at random. False when nobody has anything to do.
  bool step();
  /// Lets time pass: heartbeats, time-outs, patience.
  void pass(std::chrono::nanoseconds time) { sched.advance_time(time); }
  /// Runs everything there is to do, with time passing, without faults.
  void settle(std::chrono::nanoseconds time);

  void start(sim_node& n);
  void crash(sim_node& n);
  /// Its connections stand, and nothing comes through them.
  void cut_off(sim_node& n);
  /// Connections that are cut end as a whole, as when the network is back.
  void heal();
  sim_node& named(const std::string& name);
  bool reaches(const std::string& a, const std::string& b) const;

  using client = graph_client;
  client ask(sim_node& at, const pb::Definition& def) { return ask_graph(system, at.graph, def); }

  /// One held run of some node ends.
  bool finish_one(bool bad);
  std::size_t held() const;
  int runs() const;
  std::vector<std::string> violations;
  int away = 0;  // steps that ran on another node than their build's

  std::mt19937_64 random;
  test_config config;
  caf::actor_system system{config};
  test::stepped_scheduler& sched = test::stepped_scheduler::of(system);
  std::shared_ptr<actors::job_pool> io = std::make_shared<actors::job_pool>(0);
  std::vector<std::unique_ptr<sim_node>> nodes;
  std::map<std::string, std::string> value_of;  // "node!ref" → content
  std::map<std::string, std::string> sources;   // identifier → content
  std::function<std::string(const run_request&, const std::vector<std::string>& inputs)> meaning;

 private:
  struct connection {
    std::shared_ptr<wire_state> state;
    node_actor handle;
  };
  static constexpr int steps_at_once_max = 200'000;  // without time passing

  void run_all();
  result<node_actor> dial(const std::string& from, const std::string& address);

  std::vector<connection> connections_;
  std::set<std::string> cut_;
};

}  // namespace kiln::test
