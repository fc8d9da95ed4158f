// What this node has to do and has done, as it tells the others with every heartbeat. Used on the cluster's
// actor only.
#pragma once

#include "actors/cluster/cluster_context.hpp"

namespace kiln::actors {

class load_meter {
 public:
  /// `cluster` must outlive this.
  explicit load_meter(cluster_context& cluster) : c_(cluster) {}

  /// Begins to measure; what was measured is in the context's load before long.
  void measure();

 private:
  cluster_context& c_;
  bool asking_worker_ = false;
  bool counting_ = false;
};

}  // namespace kiln::actors
