// What the workers of other nodes are now, which may change while they run (devices): answering for this
// node's worker, and asking all of the others at once. Used on the cluster's actor only.
#pragma once

#include "actors/cluster/membership.hpp"

namespace kiln::actors {

class peer_records {
 public:
  /// Both must outlive this.
  peer_records(cluster_context& cluster, membership& members) : c_(cluster), members_(members) {}

  /// This node's worker; as it introduced itself while it restarts.
  caf::result<types::WorkerRecord> answer();
  /// The nodes that are linked, with their records as those say that answer in time, else as last known.
  caf::result<cluster_view> ask();

 private:
  cluster_view known() const;

  cluster_context& c_;
  membership& members_;
};

}  // namespace kiln::actors
