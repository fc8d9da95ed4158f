#include "supervisors/daemon_tree.hpp"

#include <condition_variable>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "actors/ask_and_wait.hpp"
#include "actors/builds.hpp"
#include "actors/cluster/cluster.hpp"
#include "configs/supervision.hpp"
#include "messages/actor_error.hpp"

namespace kiln::supervision {

namespace {

using actors::peers;

using namespace configs::supervision;

template <class Behavior, class Options>
child_spec actor_child(const char* name, Behavior behavior, Options options) {
  child_spec spec;
  spec.id = name;
  spec.start = [behavior, options = std::move(options)](caf::event_based_actor* parent,
                                                        const caf::message&) -> caf::expected<caf::actor> {
    return caf::actor_cast<caf::actor>(parent->system().spawn(behavior, options));
  };
  return spec;
}

/// Sessions are spawned where their tunnel is, and adopted: a dead one is never started again.
child_spec session_template() {
  child_spec spec;
  spec.id = "session";
  spec.policy = restart::temporary;
  spec.start = [](caf::event_based_actor*, const caf::message&) -> caf::expected<caf::actor> {
    return to_caf(make_error(errc::failed_precondition, "sessions are adopted, not started"));
  };
  return spec;
}

/// A child that somebody else knows how to start.
child_spec made_child(const char* name, std::function<caf::actor(caf::actor_system&)> start,
                      std::chrono::milliseconds shutdown_timeout = child_spec{}.shutdown_timeout) {
  child_spec spec;
  spec.id = name;
  spec.shutdown_timeout = shutdown_timeout;
  spec.start = [start = std::move(start)](caf::event_based_actor* parent,
                                          const caf::message&) -> caf::expected<caf::actor> {
    return start(parent->system());
  };
  return spec;
}

/// Which children are awaited, and have not started yet.
class awaited_children {
 public:
  void add(std::string id) { missing_.insert(std::move(id)); }
  void started(const std::string& id) {
    std::lock_guard lock(mutex_);
    if (missing_.erase(id) > 0 && missing_.empty()) all_.notify_all();
  }
  /// True when nobody is missing any more.
  bool wait_for(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    return all_.wait_for(lock, time, [this] { return missing_.empty(); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable all_;
  std::set<std::string> missing_;
};

/// Root answers once it has run its start; the nested supervisors then start theirs on their own.
status await_all(caf::actor_system& system, const caf::actor& root, awaited_children& children) {
  const std::function<void(std::vector<child_report>&)> it_lives = [](std::vector<child_report>&) {};
  while (!children.wait_for(start_look_interval))
    KILN_CHECK(actors::ask_and_wait(system, root, caf::infinite, it_lives, children_atom::value));
  return {};
}

}  // namespace

result<caf::actor> start_daemon_tree(caf::actor_system& system, tree_options o) {
  auto registry = o.registry;
  auto awaited = std::make_shared<awaited_children>();
  auto started = [awaited, tell = o.started](const std::string& id) {
    awaited->started(id);
    if (tell) tell(id);
  };
  auto noted = [&](supervisor_options group) {
    for (const auto& child : group.children) awaited->add(child.id);
    group.started = started;
    return nested(std::move(group));
  };
  supervisor_options storage{
      "storage",
      strategy::one_for_all,
      leaf_intensity,
      leaf_period,
      {actor_child(peers::cache_manager_name, actors::cache_manager, o.cache_manager),
       actor_child(peers::garbage_collector_name, actors::garbage_collector, o.garbage_collector),
       actor_child(peers::history_name, actors::history, o.history)},
      registry};
  supervisor_options workers{"worker supervisor",
                             strategy::one_for_one,
                             leaf_intensity,
                             leaf_period,
                             {actor_child(o.step_dispatcher ? peers::local_worker_name : peers::worker_name,
                                          actors::worker, o.worker),
                              actor_child(peers::workers_name, actors::workers, o.workers),
                              actor_child(actors::containers_name, actors::containers, o.containers)},
                             registry};
  // Where a lone node has its worker.
  if (o.step_dispatcher)
    workers.children.push_back(actor_child(peers::worker_name, actors::step_dispatcher, *o.step_dispatcher));
  // A build that lost its graph cannot go on: builds follow build_graph, hence not one_for_one.
  supervisor_options solver{
      "solver",
      strategy::rest_for_one,
      leaf_intensity,
      leaf_period,
      {actor_child(peers::build_graph_name, actors::build_graph, o.build_graph),
       actor_child(peers::builds_name, actors::builds, actors::builds_options{o.build})},
      registry};
  supervisor_options sessions{sessions_name, strategy::simple_one_for_one, leaf_intensity,
                              leaf_period,   {session_template()},         registry};
  std::vector<child_spec> children{noted(std::move(storage)), noted(std::move(workers))};
  // A supervisor of its own: builds that run need not end with the links.
  if (o.cluster) {
    children.push_back(noted({"cluster supervisor",
                              strategy::one_for_one,
                              leaf_intensity,
                              leaf_period,
                              {made_child(peers::cluster_name, o.cluster)},
                              registry}));
  }
  children.push_back(noted(std::move(solver)));
  children.push_back(nested(std::move(sessions)));
  awaited->add(sessions_name);
  // The last to start and the first to stop: whoever calls finds everybody. It stops when its calls have
  // ended, and those are cancelled.
  if (o.gateway) {
    children.push_back(noted({"gateway supervisor",
                              strategy::one_for_one,
                              leaf_intensity,
                              leaf_period,
                              {made_child(gateway_name, o.gateway, no_timeout)},
                              registry}));
  }
  auto root = spawn_supervisor(system, {"root", strategy::rest_for_one, root_intensity, root_period,
                                        std::move(children), registry, started});
  if (auto up = await_all(system, root, *awaited); !up.ok()) {
    caf::anon_send_exit(root, caf::exit_reason::user_shutdown);
    return std::move(up).error().with_context("starting the actors");
  }
  return root;
}

}  // namespace kiln::supervision
