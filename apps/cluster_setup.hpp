// Puts a node into its cluster: certificates, CAF's middleman over TLS, the ways to dial and to be dialled.
// Everything here is made once, before the actor system; its functions are called from pool threads and by the
// supervision tree.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include <caf/all.hpp>

#include "actors/cluster.hpp"
#include "configs/certificates.hpp"
#include "configs/daemon_config.hpp"
#include "messages/cluster_text.hpp"
#include "store/unique_fd.hpp"

namespace kiln::apps {

class cluster_setup {
 public:
  /// Checks certificates and addresses. `host` names the node unless the configuration does.
  static result<std::unique_ptr<cluster_setup>> make(const configs::daemon_config& config, const std::string& host);
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

  /// Loads the middleman and its TLS; before the actor system.
  void configure(caf::actor_system_config& config) const;
  /// What the cluster actor needs, but for what belongs to the daemon: worker, keys, io, counters, coordinates.
  actors::cluster_options options(caf::actor_system& system, types::WorkerRecord record);
  /// Starts the cluster actor and publishes it, in place of the one before.
  caf::expected<caf::actor> start(caf::actor_system& system, const actors::cluster_options& options);
  /// No dial begins after this, and none is under way any more: before the actor system goes.
  void stop();

 private:
  cluster_setup() = default;
  /// After which a connection on which nothing comes back is ended by the kernel.
  std::chrono::milliseconds silence_limit() const;
  result<cluster_actor> dial(caf::actor_system& system, const std::string& address) const;

  struct probe_context;
  configs::cluster_config config_;
  node_info info_;
  host_port listen_;
  std::string data_listen_;
  configs::certificate_files files_;
  configs::certificate_texts certificates_;
  // CAF reads its certificates anew for each connection, and ends the process when that fails: it gets copies.
  unique_fd ca_copy_, cert_copy_, key_copy_;
  std::unique_ptr<probe_context> probe_;
  std::shared_ptr<actors::job_pool> dials_;
  std::shared_ptr<std::atomic<bool>> stopping_ = std::make_shared<std::atomic<bool>>(false);
  caf::actor_addr published_;
};

/// The addresses behind "name:port".
result<std::vector<std::string>> resolve_seed(const std::string& seed);

}  // namespace kiln::apps
