// How this node leaves the cluster: it takes no new work, waits until nobody has anything here any more, and
// ends its links. Used on the cluster's actor only.
#pragma once

#include <vector>

#include "actors/cluster/membership.hpp"

namespace kiln::actors {

class departure {
 public:
  /// Both must outlive this.
  departure(cluster_context& cluster, membership& members) : c_(cluster), members_(members) {}

  /// From now on, if not before.
  void begin();
  /// As begin(); answered when the node has left: true when nothing of others was still here.
  caf::result<bool> begin_and_wait();
  /// Leaves when nobody has anything here any more, or the grace is over.
  void go_on();
  /// Answers whoever waits.
  void refuse_all(const error& why) { actors::refuse_all(waiters_, why); }

  /// "", "draining", "drained": in an operator's view.
  const char* state() const { return c_.has_left ? "drained" : c_.load.draining ? "draining" : ""; }

 private:
  void leave(bool clean);

  cluster_context& c_;
  membership& members_;
  cluster_context::time_point until_;
  bool checking_ = false;
  bool was_clean_ = false;
  std::vector<caf::typed_response_promise<bool>> waiters_;
};

}  // namespace kiln::actors
