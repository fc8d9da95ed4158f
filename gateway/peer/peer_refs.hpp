// Refs of other nodes as refs of this one: the chain of layers is asked for at once, their bytes when
// somebody needs them. Thread-safe; calls block.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "configs/peers.hpp"
#include "gateway/peer/peer_client.hpp"
#include "messages/job.hpp"
#include "store/ref_store.hpp"

namespace kiln::gateway {

struct peer_refs_options {
  std::chrono::milliseconds idle_timeout = configs::peers::idle_timeout;
  int attempts_max = configs::peers::attempts_max;
  std::chrono::milliseconds retry_pause = configs::peers::retry_pause;
  std::chrono::milliseconds join_time = configs::peers::join_time;
};

class peer_refs {
 public:
  /// The store must outlive it and every job that uses what was fetched.
  peer_refs(store::ref_store& store, std::shared_ptr<peer_directory> peers, peer_refs_options options = {});

  /// The ref "node!id" as a lazy ref of this store; a ref of this node is looked up. data_loss with a
  /// lost-ref detail (solver/error_details.hpp) when its node is unknown, gone, does not answer or does not
  /// have it; the same comes from whoever needs the bytes when they cannot be had, or are not what the node
  /// said.
  result<store::ref> fetch(const std::string& located, const job_context& job);

  struct shared;  // what providers of layers keep alive

 private:
  std::shared_ptr<shared> shared_;
};

}  // namespace kiln::gateway
