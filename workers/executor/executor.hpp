// Runs containers through an OCI runtime (crun or runc): bundle, cgroup, streams, cancellation, clean-up.
//
// Every container has a directory below the executor's root from before anything is made for it until after
// everything is gone, so a sweep at start finds whatever a killed daemon left. Thread-safe; run() and exec()
// block their caller.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "store/files/private_directory.hpp"
#include "workers/executor/cgroups.hpp"
#include "workers/executor/container.hpp"
#include "workers/executor/network.hpp"
#include "workers/proxy/certificates.hpp"

namespace kiln::workers {

struct dns_settings {
  std::vector<std::string> nameservers;
  std::vector<std::string> options;
  std::vector<std::string> search_domains;
};

struct executor_options {
  std::filesystem::path root;         // the executor's own directory, e.g. <state>/executor
  std::string binary;                 // runtime; empty: buildkit-crun, crun, buildkit-runc, runc from PATH
  std::string default_cgroup_parent;  // empty: containers go to /buildkit/<id>
  dns_settings dns;
  network_settings network;
  std::string apparmor_profile;  // empty: none
  bool process_sandbox = true;   // false: the host's PID namespace (rootless in a container)
};

class executor {
 public:
  /// Finds the runtime, sweeps what a former daemon left below root. not_found without a runtime.
  static result<std::unique_ptr<executor>> open(executor_options options);
  ~executor();

  /// Runs a container to its end. `stop` kills everything in it; the error is then cancelled, and
  /// nothing of it is left when this returns.
  result<exit_state> run(const container_spec& spec, const process_io& io, std::stop_token stop);
  /// Runs one more process in a container that run() is running on another thread; waits for it to
  /// be up. not_found when there is no such container (any more). Empty fields of `process` (user,
  /// cwd, env) are the container's own.
  result<exit_state> exec(const std::string& container, const process_spec& process, const process_io& io,
                          std::stop_token stop);

  /// The runtime in use, for labels and logs.
  const std::string& binary() const { return binary_; }
  /// "host" or "cni": what an op without a network mode gets.
  std::string default_network() const;

 private:
  explicit executor(executor_options options, std::string binary);
  bool is_crun() const;
  status sweep();
  void sweep_container(const std::string& id);

  struct running;
  struct resolv_source {
    std::string path;
    std::int64_t seconds = 0;  // mtime
    std::int64_t nanoseconds = 0;
  };
  result<exit_state> run_registered(const container_spec& spec, running& state, const process_io& io,
                                    std::stop_token stop);
  result<network_provider*> provider_of(pb::NetMode mode) const;
  /// Who vouches for the proxies of steps: made when the first of them wants it.
  result<std::shared_ptr<proxy::certificates>> proxy_authority();
  result<std::string> resolv_conf_file(bool host_network);
  result<std::string> hosts_file(const container_spec& spec, const store::private_directory& bundle);
  std::vector<std::string> runtime_arguments(const std::string& group) const;

  executor_options options_;
  store::private_directory root_;     // options_.root
  store::private_directory runtime_;  // the runtime's own state
  store::private_directory bundles_;
  std::string binary_;
  bool hide_unified_ = false;  // crun refuses hybrid cgroups: run it where the v2 part is not visible
  parent_groups groups_;
  std::unique_ptr<network_provider> default_network_;
  std::unique_ptr<network_provider> host_network_;
  std::unique_ptr<network_provider> no_network_;
  std::mutex authority_mutex_;
  std::shared_ptr<proxy::certificates> authority_;
  std::mutex mutex_;  // what follows, and the shared files
  resolv_source resolv_[2];
  std::map<std::string, std::shared_ptr<running>> running_;  // by container id
};

}  // namespace kiln::workers
