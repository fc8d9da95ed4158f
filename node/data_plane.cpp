#include "node/data_plane.hpp"

namespace kiln::node {

result<std::unique_ptr<data_plane>> data_plane::start(const cluster_setup& cluster, store::ref_store& refs,
                                                      session_directory& own_sessions) {
  std::unique_ptr<data_plane> out{new data_plane};
  const auto& files = cluster.certificate_files();
  gateway::tls_files tls{files.cert, files.key, files.ca};
  KILN_TRY(out->peers_, gateway::peer_directory::make(cluster.node_name(), tls));
  out->refs_ = std::make_unique<gateway::peer_refs>(refs, out->peers_);
  out->sessions_ = std::make_unique<gateway::remote_sessions>(own_sessions, out->peers_);
  KILN_TRY(out->server_,
           gateway::peer_server::start({cluster.data_listen(), tls},
                                       {&refs, &own_sessions, out->grants_, out->peers_->shared_traffic()}));
  return out;
}

void data_plane::follow(actors::step_dispatcher_options& step_dispatcher) {
  step_dispatcher.node_up = [peers = peers_](const node_info& info) {
    peers->put(info.name, info.data_address);
  };
  step_dispatcher.node_down = [peers = peers_](const std::string& node) { peers->erase(node); };
}

void data_plane::count(node_load& load) const {
  load.bytes_in = peers_->traffic().in.load();
  load.bytes_out = peers_->traffic().out.load();
}

}  // namespace kiln::node
