// Two nodes in one process: their stores, their peer services on loopback, certificates of one authority.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "../store/store_fixture.hpp"
#include "../support/fake_client.hpp"
#include "certificates.hpp"
#include "gateway/peer/peer_refs.hpp"
#include "gateway/peer/peer_server.hpp"

namespace kiln::testing {

using namespace kiln::store::testing;
using namespace std::chrono_literals;

inline const certificates& certs() {
  static const certificates all;
  return all;
}

/// A node that serves, and knows whom it is told of.
struct node {
  explicit node(std::string name) : peers(must(gateway::peer_directory::make(name, certs().files("node")))) {
    serve();
    refs.emplace(*store, peers,
                 gateway::peer_refs_options{
                     .idle_timeout = 10s, .attempts_max = 3, .retry_pause = 1ms, .join_time = 50ms});
  }
  void serve(const std::string& address = "127.0.0.1:0") {
    server = must(gateway::peer_server::start({address, certs().files("node")},
                                              {store.get(), &sessions, grants, peers->shared_traffic()}));
  }
  void know(const node& other) { peers->put(other.peers->self(), other.server->address()); }

  temporary_root root;
  std::unique_ptr<store::ref_store> store = open_store(root);
  test::fake_directory sessions;
  std::shared_ptr<session_grants> grants = std::make_shared<session_grants>();
  std::shared_ptr<gateway::peer_directory> peers;
  std::optional<gateway::peer_refs> refs;
  std::unique_ptr<gateway::peer_server> server;
};

struct two_nodes {
  node a{"a"}, b{"b"};
  two_nodes() {
    a.know(b);
    b.know(a);
  }
  store::ref bring(const store::ref& r) { return must(b.refs->fetch("a!" + r.id(), {})); }
};

}  // namespace kiln::testing
