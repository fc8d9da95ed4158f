// A node's data address: the peer service and containerd's Content service for other nodes, over TCP with
// mutual TLS; whoever has no certificate of the cluster's authority gets nothing. Start and shut down from
// one thread.
#pragma once

#include <memory>
#include <string>

#include "gateway/peer/peer_client.hpp"
#include "gateway/server.hpp"
#include "messages/session.hpp"
#include "messages/session_grants.hpp"
#include "store/ref_store.hpp"

namespace kiln::gateway {

struct peer_server_options {
  std::string address;  // host:port; port 0: any
  tls_files tls;        // all three needed
};

/// What is served; both must outlive the server.
struct peer_server_parts {
  store::ref_store* refs = nullptr;
  session_directory* sessions = nullptr;         // of this node only
  std::shared_ptr<const session_access> access;  // what other nodes may ask of those; null: nothing
  std::shared_ptr<peer_traffic> traffic;         // null: not counted
};

class peer_server {
 public:
  static result<std::unique_ptr<peer_server>> start(const peer_server_options& options,
                                                    const peer_server_parts& parts);

  virtual ~peer_server() = default;
  /// host:port, with the real port.
  virtual std::string address() const = 0;
  /// Ends every call and the server. Idempotent.
  virtual void shutdown() = 0;
};

}  // namespace kiln::gateway
