// What a node of a cluster has of the others' bytes: their refs, their clients' sessions, and its own served
// to them.
#pragma once

#include <memory>

#include "actors/cluster/step_dispatcher.hpp"
#include "node/cluster_setup.hpp"
#include "gateway/peer/peer_refs.hpp"
#include "gateway/peer/peer_server.hpp"
#include "gateway/session/remote_sessions.hpp"

namespace kiln::node {

class data_plane {
 public:
  /// `refs` and `own_sessions` outlive it and every job that uses it.
  static result<std::unique_ptr<data_plane>> start(const cluster_setup& cluster, store::ref_store& refs,
                                                   session_directory& own_sessions);

  result<store::ref> fetch(const std::string& located, const job_context& job) {
    return refs_->fetch(located, job);
  }
  session_directory& sessions() { return *sessions_; }
  /// Has the step_dispatcher keep the directory of nodes up to date.
  void follow(actors::step_dispatcher_options& step_dispatcher);
  void count(node_load& load) const;
  /// What other nodes may ask of the sessions here: for the step_dispatcher to say.
  const std::shared_ptr<session_grants>& grants() const { return grants_; }
  /// Other nodes get nothing from here any more.
  void stop() { server_->shutdown(); }

 private:
  data_plane() = default;

  std::shared_ptr<session_grants> grants_ = std::make_shared<session_grants>();
  std::shared_ptr<gateway::peer_directory> peers_;
  std::unique_ptr<gateway::peer_refs> refs_;
  std::unique_ptr<gateway::remote_sessions> sessions_;
  std::unique_ptr<gateway::peer_server> server_;
};

}  // namespace kiln::node
