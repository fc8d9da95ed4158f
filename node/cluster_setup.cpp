#include "node/cluster_setup.hpp"

#include <netdb.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <thread>

#include <caf/io/basp_broker.hpp>
#include <caf/io/middleman.hpp>

#include "actors/ask_and_wait.hpp"
#include "node/basp_gate.hpp"
#include "node/tls_context.hpp"
#include "configs/node_names.hpp"
#include "configs/version.hpp"
#include "messages/actor_error.hpp"

namespace kiln::node {

namespace {

namespace cfg = configs::cluster;

/// The port under which CAF's broker has the cluster actor: nobody listens there, connections come from the
/// relay.
constexpr std::uint16_t published_port = 0;

}  // namespace

cluster_setup::~cluster_setup() { stop(); }

result<std::unique_ptr<cluster_setup>> cluster_setup::make(const configs::daemon_config& config,
                                                           const std::string& host) {
  const auto& c = config.cluster;
  std::unique_ptr<cluster_setup> s{new cluster_setup()};
  s->config_ = c;
  s->info_.name = c.name.empty() ? host : c.name;
  if (!is_node_name(s->info_.name))
    return make_error(errc::invalid_argument,
                      "the host name \"" + host + "\" cannot name a node: say how by cluster name");
  auto listen = parse_host_port(c.listen);
  auto role = parse_node_role(c.role);
  if (!listen || !role)
    return make_error(errc::invalid_argument, "cluster listen address or role: not validated");
  auto data_port = static_cast<std::uint16_t>(c.data_port == 0 ? listen->port + 1 : c.data_port);
  auto reached = c.advertise.empty() ? listen->host : c.advertise;
  s->data_listen_ = join_host_port(listen->host, data_port);
  s->info_.control_address = join_host_port(reached, listen->port);
  s->info_.data_address = join_host_port(reached, data_port);
  std::random_device random;
  s->info_.instance = (std::uint64_t{random()} << 32) | random();
  s->info_.version = configs::version;
  s->info_.role = *role;
  int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  s->info_.slots = std::clamp(c.slots > 0                      ? c.slots
                              : config.oci.max_parallelism > 0 ? config.oci.max_parallelism
                                                               : 2 * cores,
                              1, cfg::slots_max);
  s->files_ = {c.ca, c.cert, c.key};
  KILN_TRY(s->certificates_, configs::load_certificates(s->files_, std::time(nullptr)));
  tls_relay_options relay;
  relay.certificates = s->certificates_;
  relay.listen = *listen;
  relay.handshake_time = cfg::dial_time;
  relay.silence = std::chrono::milliseconds{cfg::connection_dead_factor * c.dead_after_ns / 1'000'000};
  relay.connections_max = 2 * cfg::peers_max;
  KILN_TRY(auto own, identity_of(s->certificates_.cert));
  if (auto why = configs::misnamed(own.names, s->info_.name); !why.empty())
    return make_error(errc::invalid_argument, "cluster certificate: " + c.cert + " " + why);
  s->peers_ = std::make_shared<basp_peers>(std::move(own));
  relay.gate = [peers = s->peers_](bool dialled, const certificate_identity& other) {
    return std::make_unique<basp_gate>(peers, dialled, other);
  };
  KILN_TRY(s->relay_, tls_relay::open(std::move(relay)));
  s->dials_ = std::make_shared<actors::job_pool>(cfg::dial_threads);
  return s;
}

void cluster_setup::configure(caf::actor_system_config& config) const {
  config.add_message_types<caf::id_block::kiln_cluster>();
  config.load<caf::io::middleman>();
  // Not CAF's heartbeats: our own beats end links, and the kernel ends connections that are silent.
  config.set("middleman.heartbeat-interval", caf::timespan{0});
}

actors::cluster_options cluster_setup::options(caf::actor_system& system, types::WorkerRecord record) {
  actors::cluster_options o;
  o.self = info_;
  o.self.record = std::move(record);
  o.seeds = config_.seeds;
  o.dial = [this, &system](const std::string& address) { return dial(system, address); };
  o.resolve = resolve_seed;
  o.misnamed = [peers = peers_](const caf::node_id& node, const std::string& name) {
    return configs::misnamed(peers->names_of(node), name);
  };
  std::random_device random;
  o.seed = (std::uint64_t{random()} << 32) | random();
  o.heartbeat_interval = std::chrono::nanoseconds{config_.heartbeat_interval_ns};
  o.dead_after = std::chrono::nanoseconds{config_.dead_after_ns};
  o.peer_answer_time = std::chrono::nanoseconds{config_.peer_answer_time_ns};
  o.drain_grace = std::chrono::nanoseconds{config_.drain_grace_ns};
  o.dials = dials_;
  return o;
}

caf::actor cluster_setup::start(caf::actor_system& system, const actors::cluster_options& options) {
  auto spawned = system.spawn(actors::cluster, options);
  std::lock_guard lock(mutex_);
  published_ = caf::actor_cast<caf::strong_actor_ptr>(spawned);
  if (!broker_) {
    broker_ = system.middleman().named_broker<caf::io::basp_broker>(caf::atom("BASP"));
    relay_->start([this, &system](unique_fd fd) { publish(system, std::move(fd)); });
  }
  return caf::actor_cast<caf::actor>(spawned);
}

/// A node has come in: tells it of the present cluster actor.
void cluster_setup::publish(caf::actor_system& system, unique_fd fd) {
  std::lock_guard lock(mutex_);
  if (!broker_) return;
  caf::anon_send(broker_, caf::publish_atom::value, system.middleman().backend().new_scribe(fd.release()),
                 published_port, published_, std::set<std::string>{});
}

result<cluster_actor> cluster_setup::dial(caf::actor_system& system, const std::string& address) {
  KILN_TRY(auto fd, relay_->connect(address, cfg::dial_time));
  caf::actor broker;
  {
    std::lock_guard lock(mutex_);
    broker = broker_;
  }
  if (!broker) return make_error(errc::cancelled, "shutting down");
  result<cluster_actor> out = make_error(errc::unavailable, "nobody listens there");
  std::function<void(caf::node_id&, caf::strong_actor_ptr&, std::set<std::string>&)> take =
      [&](caf::node_id&, caf::strong_actor_ptr& handle, std::set<std::string>&) {
        if (handle) out = caf::actor_cast<cluster_actor>(handle);
      };
  auto answered = actors::ask_and_wait(system, broker, cfg::dial_time, take, caf::connect_atom::value,
                                       system.middleman().backend().new_scribe(fd.release()), published_port);
  if (!answered.ok()) return make_error(errc::unavailable, answered.error().message);
  return out;
}

void cluster_setup::stop() {
  {
    std::lock_guard lock(mutex_);
    broker_ = nullptr;
    published_ = nullptr;
  }
  dials_.reset();
  relay_.reset();
}

result<std::vector<std::string>> resolve_seed(const std::string& seed) {
  auto where = parse_host_port(seed);
  if (!where) return make_error(errc::invalid_argument, seed + " is no host:port");
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (int e = getaddrinfo(where->host.c_str(), nullptr, &hints, &found); e != 0)
    return make_error(errc::unavailable,
                      where->host + ": " + (e == EAI_SYSTEM ? strerror(errno) : gai_strerror(e)));
  std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses{found, freeaddrinfo};
  std::set<std::string> out;
  for (auto* a = addresses.get(); a; a = a->ai_next) {
    char host[NI_MAXHOST] = {};
    if (getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof host, nullptr, 0, NI_NUMERICHOST) == 0)
      out.insert(join_host_port(host, where->port));
  }
  return std::vector<std::string>(out.begin(), out.end());
}

}  // namespace kiln::node
