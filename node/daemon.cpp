#include "node/daemon.hpp"

#include <sys/eventfd.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <future>
#include <mutex>

#include <caf/all.hpp>
#include <spdlog/spdlog.h>

#include "actors/ask_and_wait.hpp"
#include "actors/build/proxy_judge.hpp"
#include "actors/handler_watch.hpp"
#include "actors/history/history_orphans.hpp"
#include "actors/cluster/step_scheduler.hpp"
#include "actors/spawn_outside.hpp"
#include "actors/worker/worker_devices.hpp"
#include "node/cluster_setup.hpp"
#include "node/data_plane.hpp"
#include "node/daemon_options.hpp"
#include "node/worker_record.hpp"
#include "base/unique_fd.hpp"
#include "configs/daemon.hpp"
#include "configs/provenance_environment.hpp"
#include "configs/version.hpp"
#include "frontends/gateway/gateway_frontend.hpp"
#include "gateway/bridge/frontend_runner.hpp"
#include "gateway/supervised_server.hpp"
#include "messages/actor_error.hpp"
#include "messages/located_id.hpp"
#include "distribution/hosts.hpp"
#include "solver/step_entitlements.hpp"
#include "store/hashing/content_hash.hpp"
#include "supervisors/tree_parts.hpp"
#include "workers/op_registry.hpp"
#include "workers/sources/image_blob.hpp"
#include "workers/client_container.hpp"
#include "workers/sources/resolutions.hpp"
#include "workers/worker_resources.hpp"

namespace kiln::node {

namespace {

namespace types = moby::buildkit::v1::types;

struct actor_config : caf::actor_system_config {
  actor_config() {
    set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", configs::scheduler_threads);
    set("scheduler.max-throughput", configs::scheduler_throughput);
    set("logger.console", caf::atom("none"));
    add_message_types<caf::id_block::kiln>();
    add_message_types<caf::id_block::kiln_containers>();
    actors::watch_handlers(*this);
  }
};

std::int64_t disk_free(const std::string& path) {
  struct statvfs info;
  if (statvfs(path.c_str(), &info) != 0) return 0;
  return static_cast<std::int64_t>(info.f_bavail) * static_cast<std::int64_t>(info.f_frsize);
}

std::int64_t disk_size(const std::string& path) {
  struct statvfs info;
  if (statvfs(path.c_str(), &info) != 0) return 0;
  return static_cast<std::int64_t>(info.f_blocks) * static_cast<std::int64_t>(info.f_frsize);
}

}  // namespace

/// The actor system for somebody who asks at a bad time.
class live_system {
 public:
  void set(caf::actor_system* system) {
    std::lock_guard lock(mutex_);
    system_ = system;
  }
  std::string what_runs() const {
    std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock) return "the actor system is being taken down";
    if (!system_) return "no actor, but threads or what they use";
    return std::to_string(system_->registry().running()) + " actors";
  }

 private:
  mutable std::mutex mutex_;
  caf::actor_system* system_ = nullptr;
};

/// Members are destroyed from the bottom up: whoever uses something stands below it.
struct daemon::parts {
  configs::daemon_config config;
  bool own_mounts = false;
  unique_fd failure{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::unique_ptr<store::ref_store> refs;
  std::unique_ptr<distribution::hosts> hosts;
  std::shared_ptr<gateway::session_registry> sessions = std::make_shared<gateway::session_registry>();
  std::unique_ptr<workers::worker_resources> resources;
  std::vector<platform> configured_platforms;
  std::unique_ptr<workers::op_registry> ops;
  supervision::tree_pools pools = supervision::tree_pools::make();
  std::shared_ptr<actor_registry> registry = std::make_shared<actor_registry>();
  std::unique_ptr<cluster_setup> cluster;  // null: this node is alone
  std::unique_ptr<data_plane> data;        // with it
  std::shared_ptr<std::atomic<int>> running_builds = std::make_shared<std::atomic<int>>(0);
  std::shared_ptr<live_system> live = std::make_shared<live_system>();
  actor_config caf_config;
  std::unique_ptr<caf::actor_system> system;
  std::shared_ptr<gateway::listeners> listeners;
  caf::actor root;
  bool stopping = false;

  status open_state() {
    KILN_TRY(auto snapshotter, store::parse_snapshotter(config.oci.snapshotter));
    KILN_TRY(refs, store::ref_store::open({config.root, snapshotter, own_mounts}));
    actors::sweep_history_documents(*refs);
    hosts = std::make_unique<distribution::hosts>(config.registries,
                                                  static_cast<unsigned>(config.max_registry_concurrency));
    workers::worker_options worker;
    worker.refs = refs.get();
    worker.executor = executor_options(config);
    worker.platforms_max_age = std::chrono::nanoseconds{config.platforms_max_age_ns};
    if (!config.cdi_disabled)
      worker.devices = workers::cdi::registry_options{config.cdi_spec_dirs, config.cdi_auto_allowed};
    KILN_TRY(resources, workers::open_worker(std::move(worker)));
    ops = std::make_unique<workers::op_registry>(*resources);
    for (auto& source : workers::make_remote_sources(*refs, *hosts)) ops->add(std::move(source));
    return {};
  }

  /// What of the record may have changed since it was made.
  void update(types::WorkerRecord& record) const {
    record.clear_platforms();
    for (const auto& p : workers::offered_platforms(configured_platforms, resources->platforms->known()))
      to_proto(p, *record.add_platforms());
    if (resources->devices) actors::set_devices(record, resources->devices->devices());
  }

  status start_actors() {
    worker_facts facts;
    KILN_TRY(facts.id, actors::worker_id(*refs));
    facts.network = resources->executor->default_network();
    facts.snapshotter = store::to_string(refs->snapshotter());
    if (cluster) facts.node = cluster->node_name();
    KILN_TRY(facts.gc_policy, configs::gc_rules(config.oci, disk_size(config.root)));
    KILN_TRY(auto record, worker_record(config, facts));
    for (const auto& p : record.platforms()) {
      configured_platforms.push_back(from_proto(p));
      auto why = resources->platforms->why_not(configured_platforms.back());
      if (!why.ok()) spdlog::warn("{}", why.error().message);
    }
    update(record);
    actors::peers peers{registry};
    auto tree = supervision::wire(*refs, sessions.get(), registry, pools);
    tree.garbage_collector.policy = std::move(facts.gc_policy);
    tree.history.bounds.entries_max = config.history.max_entries;
    tree.history.bounds.age_max_ns = config.history.max_age_ns;

    tree.worker.handler = [this](const pb::Op& op) { return ops->handler(op); };
    tree.worker.source = [this](std::string_view identifier) { return ops->source(identifier); };
    tree.worker.exporter = [this](const std::string& type,
                                  const std::map<std::string, std::string>& attributes, int id) {
      return exporters::make_exporter(type, attributes, id, {refs.get(), hosts.get()});
    };
    tree.worker.checksum = [this](const store::ref& r, const std::vector<content_selector>& selectors,
                                  const job_context& job) {
      return store::content_checksum(*refs, r, selectors, job);
    };
    tree.worker.detach_cache = [this](const std::string& id) { return resources->cache_mounts->detach(id); };
    tree.worker.record = record;
    tree.worker.update = [this](types::WorkerRecord& now) { update(now); };
    tree.workers.refresh = [this] { resources->platforms->refresh(); };
    tree.worker.admit = [this](const pb::Op& op) {
      std::vector<solver::device> there;
      if (resources->devices && op.exec().cdidevices_size() > 0) there = resources->devices->devices();
      return solver::admit_step(op, config.insecure_entitlements, there);
    };
    tree.worker.parallelism_max = config.oci.max_parallelism;
    tree.worker.cache_resources = {refs.get(), hosts.get(), &config.gha_cache};

    tree.containers.make = [this](const gw::NewContainerRequest& request, const container_inputs& inputs) {
      return make_container(request, inputs);
    };
    KILN_TRY(auto allowed, frontends::allowed_repositories(config.frontends.gateway_allowed_repositories));
    tree.build.frontend = [this, allowed = std::move(allowed), containers = [registry = registry] {
      return registry->get<containers_actor>(actors::containers_name);
    }](const std::string& name) -> std::unique_ptr<frontends::frontend> {
      const auto& wanted = config.frontends;
      if (name == "dockerfile.v0" && wanted.dockerfile_enabled) return frontends::make_dockerfile_frontend();
      if (name != "gateway.v0" || !wanted.gateway_enabled) return nullptr;
      auto make = [this](const gw::NewContainerRequest& request, const container_inputs& inputs) {
        return make_container(request, inputs);
      };
      return frontends::make_gateway_frontend(gateway::make_frontend_runner({system.get(), make, containers}),
                                              {allowed, wanted.dockerfile_enabled});
    };
    KILN_TRY(tree.build.provenance.environment,
             configs::read_provenance_environment(config.provenance_env_dir));
    tree.build.allowed_entitlements = config.insecure_entitlements;
    tree.build.proxy_network = config.proxy_network;

    if (cluster) cluster->configure(caf_config);
    system = std::make_unique<caf::actor_system>(caf_config);
    live->set(system.get());
    if (cluster) {
      auto options = cluster->options(*system, record);
      options.worker = [peers] { return peers.local_worker(); };
      options.keys = &refs->keys();
      options.io = pools.io;
      options.counters = [this] {
        node_load load;
        load.refs = static_cast<std::int64_t>(refs->space().record_count());
        load.disk_free = disk_free(config.root);
        data->count(load);
        return load;
      };
      options.coordinates = [running = running_builds] { return running->load() > 0; };
      tree.cluster = [this, options](caf::actor_system& s) { return cluster->start(s, options); };
      tree.step_dispatcher = actors::step_dispatcher_options{
          options.self, [peers] { return peers.local_worker(); }, [peers] { return peers.cluster(); }};
      KILN_TRY(data, data_plane::start(*cluster, *refs, *sessions));
      data->follow(*tree.step_dispatcher);
      tree.step_dispatcher->grants = data->grants();
      tree.worker.sessions = &data->sessions();
      tree.worker.cache_resources.fetch = tree.worker.fetch =
          [this](const std::string& located, const job_context& job) { return data->fetch(located, job); };
    }
    KILN_TRY(auto listening, gateway_options(config));
    KILN_TRY(listeners, gateway::listeners::open(listening));
    tree.gateway = [on = listeners, s = services()](caf::actor_system& in) {
      return gateway::spawn_gateway(in, on, s);
    };
    KILN_TRY(root, supervision::start_daemon_tree(*system, std::move(tree)));
    watch_root();
    return {};
  }

  result<std::shared_ptr<workers::client_container>> make_container(const gw::NewContainerRequest& request,
                                                                    const container_inputs& inputs) {
    job_context job;
    job.sessions = inputs.sessions;
    job.directory = sessions.get();
    std::vector<store::ref> roots;
    for (const auto& id : inputs.refs) {
      if (id.empty()) {
        roots.emplace_back();
        continue;
      }
      KILN_TRY(auto ref, data&& is_remote(id) ? data->fetch(id, job) : refs->get(id));
      roots.push_back(std::move(ref));
    }
    workers::container_grants grants{inputs.network_host, inputs.security_insecure, inputs.proxy.on};
    if (inputs.proxy.on) {
      auto source = [this](std::string_view identifier) { return ops->source(identifier); };
      KILN_TRY(grants.may, actors::proxy_judge(inputs.proxy, sessions.get(), source, inputs.sessions));
    }
    return workers::make_client_container(*resources, request, roots, grants, std::move(job));
  }

  /// How long a stop waits for work under way.
  std::chrono::nanoseconds stop_grace() const {
    return cluster ? std::chrono::nanoseconds{config.cluster.drain_grace_ns} : configs::stop_grace;
  }

  /// Other nodes place no new work here from now on.
  void drain_node() {
    if (auto handle = registry->get<cluster_actor>(actors::peers::cluster_name))
      caf::anon_send(handle, drain_atom::value);
  }

  /// What the gateway answers; true while there is none, which has no calls.
  template <class... Question>
  bool ask_gateway(Question... question) {
    bool yes = true;
    const std::function<void(bool&)> take = [&yes](bool& answer) { yes = answer; };
    if (auto gateway = registry->get<gateway::gateway_actor>(supervision::gateway_name))
      (void)actors::ask_and_wait(*system, gateway, caf::infinite, take, question...);
    return yes;
  }

  /// No new connections and builds from now on; waits that long for those there are. True when all ended.
  bool drain_gateway(std::chrono::milliseconds time) {
    listeners->close();
    return ask_gateway(drain_atom::value, static_cast<std::uint32_t>(time.count()));
  }

  /// Ends every call, and what builds there are.
  void end_calls() {
    listeners->close();
    ask_gateway(done_atom::value);
  }

  /// Becomes ready when what other nodes have here is done: true, or false when it could not wait for all of
  /// it.
  std::future<bool> node_drained() {
    auto answer = std::make_shared<std::promise<bool>>();
    auto drained = answer->get_future();
    auto handle = registry->get<cluster_actor>(actors::peers::cluster_name);
    if (!handle) {
      answer->set_value(true);
      return drained;
    }
    system->spawn<caf::hidden>(
        [answer, handle](caf::event_based_actor* self, caf::unit_t) {
          self->request(handle, caf::infinite, drain_atom::value, done_atom::value)
              .then([answer](bool clean) { answer->set_value(clean); },
                    [answer](const caf::error&) { answer->set_value(false); });
        },
        caf::unit);
    return drained;
  }

  /// Root's end while nobody is stopping it is the daemon's failure.
  void watch_root() {
    system->spawn<caf::hidden>(
        [root = root, this](caf::event_based_actor* watcher, caf::unit_t) {
          watcher->set_down_handler([this](const caf::down_msg& down) {
            if (stopping) return;
            spdlog::critical("the root supervisor gave up: {}", from_caf(down.reason).message);
            std::uint64_t one = 1;
            [[maybe_unused]] auto n = write(failure.get(), &one, sizeof one);
          });
          watcher->monitor(root);
        },
        caf::unit);
  }

  /// What the gateway stands in front of.
  gateway::services services() {
    gateway::services s;
    actors::peers peers{registry};
    s.system = system.get();
    s.builds = [peers] { return peers.builds(); };
    s.workers = [peers] { return peers.workers(); };
    s.cache_manager = [peers] { return peers.cache_manager(); };
    s.history = [peers] { return peers.history(); };
    s.containers = [registry = registry] { return registry->get<containers_actor>(actors::containers_name); };
    s.running_builds = running_builds;
    if (cluster)
      s.cluster = [registry = registry] { return registry->get<cluster_actor>(actors::peers::cluster_name); };
    if (cluster && cluster->role() == node_role::worker)
      s.no_builds =
          "node " + cluster->node_name() + " only works for other nodes: send builds to one of those";
    s.sessions = sessions;
    s.spawn_session = [this](session_options options) {
      auto spawned = actors::spawn_outside(*system, session, std::move(options));  // on a thread of gRPC's
      caf::anon_send(registry->get(supervision::sessions_name), supervision::adopt_atom::value,
                     caf::actor_cast<caf::actor>(spawned));
      return spawned;
    };
    s.blobs = &refs->blobs();
    s.package = configs::buildkit_package;
    s.version = configs::buildkit_version;
    s.revision = configs::version;
    s.dockerfile_version = configs::dockerfile_version;
    return s;
  }
};

daemon::daemon(std::unique_ptr<parts> p) : parts_(std::move(p)) {}

daemon::~daemon() {
  if (parts_ && !parts_->stopping) stop([] { return true; });
}

result<std::unique_ptr<daemon>> daemon::start(const configs::daemon_config& config, bool own_mounts) {
  std::unique_ptr<daemon> d{new daemon(std::make_unique<parts>())};
  d->parts_->config = config;
  d->parts_->own_mounts = own_mounts;
  if (config.cluster.on()) {
    KILN_TRY(d->parts_->cluster, cluster_setup::make(config, host_name()));
  }
  KILN_CHECK(d->parts_->open_state());
  KILN_CHECK(d->parts_->start_actors());
  return d;
}

int daemon::failure_fd() const { return parts_->failure.get(); }

void daemon::stop(const std::function<bool()>& force_stop, const closing_hook& closing) {
  using clock = std::chrono::steady_clock;
  auto& p = *parts_;
  auto until = clock::now() + p.stop_grace();
  // True when `done`, which waits as long as it is told, is so before our patience ends.
  auto in_time = [&](auto&& done) {
    while (!done(configs::stop_poll_interval))
      if (force_stop() || clock::now() >= until) return false;
    return true;
  };
  if (p.cluster && p.system) p.drain_node();
  bool patient = true;
  if (p.root) {
    if (int running = *p.running_builds; running > 0)
      spdlog::info("stopping when {} running build{} done; a second signal cancels", running,
                   running == 1 ? " is" : "s are");
    patient = in_time([&](auto slice) { return p.drain_gateway(slice); });
    if (!patient) spdlog::warn("builds that still run are cancelled");
  }
  // Other nodes may have all the time there is; nothing else has.
  auto left = std::max<std::chrono::nanoseconds>(until - clock::now(), std::chrono::nanoseconds{0});
  if (closing)
    closing(configs::stop_deadline + (p.cluster && patient ? left : std::chrono::nanoseconds{0}),
            [live = p.live] { return live->what_runs(); });
  if (p.root) p.end_calls();
  if (p.cluster && p.system) {
    auto drained = p.node_drained();
    bool over =
        patient && in_time([&](auto slice) { return drained.wait_for(slice) == std::future_status::ready; });
    if (!over || !drained.get()) spdlog::warn("other nodes still had work here and place it again");
  }
  if (p.data) p.data->stop();
  p.stopping = true;
  if (p.root) {
    caf::anon_send_exit(p.root, caf::exit_reason::user_shutdown);
    p.root = nullptr;
  }
  if (p.system) {
    p.system->await_all_actors_done();
    if (p.cluster) p.cluster->stop();
  }
  // Jobs that were told to stop end on their threads, some of which still talk to actors (and keep something
  // of the system's with them); then nothing uses the system, nor the state.
  p.pools.close();
  p.live->set(nullptr);
  p.system.reset();
  p.data.reset();
}

}  // namespace kiln::node
