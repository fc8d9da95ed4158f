// Connections over TLS for somebody who knows plain sockets only (CAF's middleman): whoever connects in from
// the network and whoever is dialled must show a certificate of our CA; then, and only then, a local socket
// carries what is said. Knows nothing of what that is, but shows it to a gate. One thread moves the bytes of
// all connections; what it keeps of them is bounded by what the gate keeps back.
//
// Why not libcaf_openssl: the one of CAF 0.17.6 does not clear OpenSSL's error queue, so with OpenSSL 3 one
// connection that ends badly (a port scan, a killed process) ends healthy ones, and it waits for handshakes
// for ever.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "node/relay_gate.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "configs/certificates.hpp"
#include "messages/cluster_text.hpp"

namespace kiln::node {

struct tls_relay_options {
  configs::certificate_texts certificates;
  host_port listen;
  std::chrono::milliseconds handshake_time{3'000};
  /// A connection on which nothing is acknowledged for so long ends.
  std::chrono::milliseconds silence{6'000};
  std::size_t connections_max = 512;
  std::size_t handshakes_max = 64;  // of those who come in; the oldest gives way to one more
  /// Makes the gate of one connection, dialled by this node or not, with whoever has that certificate. Its
  /// gate is asked on the relay's thread only. Null: everything passes.
  std::function<std::unique_ptr<relay_gate>(bool dialled, const certificate_identity& other)> gate;
};

class tls_relay {
 public:
  /// Listens; errors name the address.
  static result<std::unique_ptr<tls_relay>> open(tls_relay_options options);
  /// Ends every connection.
  ~tls_relay();

  /// Takes those who come in from now on; called on the relay's thread, must not block. Throws when there is
  /// no thread.
  void start(std::function<void(unique_fd)> take);
  /// Dials "host:port". Blocks until the other side has accepted us and said its first word, or the time is
  /// over. failed_precondition when a certificate is refused, here or there; otherwise unavailable or
  /// deadline_exceeded.
  result<unique_fd> connect(const std::string& address, std::chrono::milliseconds time);

 private:
  struct core;
  explicit tls_relay(std::unique_ptr<core> c);
  std::unique_ptr<core> core_;
};

}  // namespace kiln::node
