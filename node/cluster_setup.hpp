// Puts a node into its cluster: certificates, CAF's middleman over TLS (tls_relay.hpp), dialling and being
// dialled. Everything here is made once, before the actor system; its functions are called from pool threads
// and by the supervision tree.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include <caf/all.hpp>

#include "actors/cluster/cluster.hpp"
#include "node/tls_relay.hpp"
#include "configs/certificates.hpp"
#include "configs/daemon_config.hpp"
#include "messages/cluster_text.hpp"

namespace kiln::node {

class cluster_setup {
 public:
  /// Checks certificates and addresses. `host` names the node unless the configuration does.
  static result<std::unique_ptr<cluster_setup>> make(const configs::daemon_config& config,
                                                     const std::string& host);
  ~cluster_setup();

  const std::string& node_name() const { return info_.name; }
  node_role role() const { return info_.role; }
  std::int32_t slots() const { return info_.slots; }
  /// As read when the daemon started; files that change later do not matter until it starts again.
  const configs::certificate_texts& certificates() const { return certificates_; }
  const configs::certificate_files& certificate_files() const { return files_; }
  /// host:port that the peer service of this node listens at, and that other nodes reach it by.
  const std::string& data_listen() const { return data_listen_; }
  const std::string& data_address() const { return info_.data_address; }

  /// Loads the middleman; before the actor system.
  void configure(caf::actor_system_config& config) const;
  /// What the cluster actor needs, but for what belongs to the daemon: worker, keys, io, counters,
  /// coordinates.
  actors::cluster_options options(caf::actor_system& system, types::WorkerRecord record);
  /// Starts the cluster actor; nodes that come in from now on are told of it.
  caf::actor start(caf::actor_system& system, const actors::cluster_options& options);
  /// No dial begins after this, and none is under way any more: before the actor system goes.
  void stop();

 private:
  cluster_setup() = default;
  void publish(caf::actor_system& system, unique_fd fd);
  result<node_actor> dial(caf::actor_system& system, const std::string& address);

  configs::cluster_config config_;
  node_info info_;
  std::string data_listen_;
  configs::certificate_files files_;
  configs::certificate_texts certificates_;
  std::shared_ptr<class basp_peers> peers_;
  std::unique_ptr<tls_relay> relay_;
  std::shared_ptr<actors::job_pool> dials_;
  std::mutex mutex_;
  caf::actor broker_;  // CAF's; these two are null before start and after stop
  caf::strong_actor_ptr published_;
};

/// The addresses behind "name:port".
result<std::vector<std::string>> resolve_seed(const std::string& seed);

}  // namespace kiln::node
