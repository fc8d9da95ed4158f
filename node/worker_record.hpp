// What this node's worker says of itself to clients and other nodes.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "configs/daemon_config.hpp"
#include "messages/prune_rule.hpp"
#include "worker.pb.h"

namespace kiln::node {

std::string host_name();

/// What the configuration does not say, or says before it is known how large the disk is.
struct worker_facts {
  std::string id;
  std::string network;      // that steps get who ask for none
  std::string snapshotter;  // in use
  std::string node;         // its name in a cluster; empty: alone
  std::vector<prune_rule> gc_policy;
};

/// With the platforms that the configuration names; what runs here besides, and which devices there are,
/// changes while the daemon runs. invalid_argument for a platform that is none. Source: BuildKit worker/base,
/// cmd/buildkitd.
result<moby::buildkit::v1::types::WorkerRecord> worker_record(const configs::daemon_config& config,
                                                              const worker_facts& facts);

}  // namespace kiln::node
