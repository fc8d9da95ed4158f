// Connections over TLS for somebody who knows plain sockets only (CAF's middleman): whoever connects in from the
// network and whoever is dialled must show a certificate of our CA; then, and only then, a local socket carries what
// is said. Knows nothing of what that is. One thread moves the bytes of all connections; nothing it keeps grows.
//
// Why not libcaf_openssl: the one of CAF 0.17.6 does not clear OpenSSL's error queue, so with OpenSSL 3 one
// connection that ends badly (a port scan, a killed process) ends healthy ones, and it waits for handshakes for ever.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "configs/certificates.hpp"
#include "messages/cluster_text.hpp"
#include "messages/result.hpp"
#include "store/unique_fd.hpp"

namespace kiln::apps {

struct tls_relay_options {
  configs::certificate_texts certificates;
  host_port listen;
  std::chrono::milliseconds handshake_time{3'000};
  /// A connection on which nothing is acknowledged for so long ends.
  std::chrono::milliseconds silence{6'000};
  std::size_t connections_max = 512;
  std::size_t handshakes_max = 64;  // of those who come in; the oldest gives way to one more
  /// Makes a judge of one connection: sees all bytes that come in, in order, and ends it by false. May be null.
  std::function<std::function<bool(const char* data, std::size_t size)>()> judge;
};

class tls_relay {
 public:
  /// Listens; errors name the address.
  static result<std::unique_ptr<tls_relay>> open(tls_relay_options options);
  /// Ends every connection.
  ~tls_relay();

  /// Takes those who come in from now on; called on the relay's thread, must not block.
  void start(std::function<void(unique_fd)> take);
  /// Dials "host:port". Blocks until the other side has accepted us and said its first word, or the time is over.
  /// failed_precondition when a certificate is refused, here or there; otherwise unavailable or deadline_exceeded.
  result<unique_fd> connect(const std::string& address, std::chrono::milliseconds time);

 private:
  struct core;
  explicit tls_relay(std::unique_ptr<core> c);
  std::unique_ptr<core> core_;
};

}  // namespace kiln::apps
