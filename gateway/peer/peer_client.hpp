// How other nodes' peer services are reached: who they are, over channels with mutual TLS. Thread-safe.
// Knows nothing of refs or sessions.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/security/credentials.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "gateway/server.hpp"

namespace kiln::gateway {

/// Bytes of blobs that moved between this node and others, since start.
struct peer_traffic {
  std::atomic<std::int64_t> in{0};
  std::atomic<std::int64_t> out{0};
};

/// The certificate, key and authority of a node, all there.
struct tls_texts {
  std::string cert, key, ca;
};
result<tls_texts> read_node_tls(const tls_files& files);

/// One other node, as long as it is known under this address.
struct peer {
  std::string node;
  std::string address;  // host:port
  std::shared_ptr<grpc::Channel> channel;
  std::stop_source gone;  // asked to stop once the node is erased or has moved: ends what is under way
};

class peer_directory {
 public:
  /// `self`: the name of this node. invalid_argument unless certificate, key and authority can all be read.
  /// Peers are checked to have a certificate of that authority, for the name they are known by.
  static result<std::shared_ptr<peer_directory>> make(std::string self, const tls_files& tls);

  const std::string& self() const { return self_; }
  /// A node is (or has moved) there; a no-op when that is known.
  void put(const std::string& node, const std::string& address);
  /// A node is gone: calls to it end.
  void erase(const std::string& node);
  /// Null when there is no such node.
  std::shared_ptr<peer> find(std::string_view node) const;
  /// As find; but a node that has never been here, and of which another one told, may be about to come: it is
  /// waited for as long as `time`. Blocking.
  std::shared_ptr<peer> await(std::string_view node, std::chrono::milliseconds time,
                              const std::stop_token& stop) const;

  peer_traffic& traffic() { return *traffic_; }
  const std::shared_ptr<peer_traffic>& shared_traffic() const { return traffic_; }

 private:
  peer_directory(std::string self, tls_texts tls) : self_(std::move(self)), tls_(std::move(tls)) {}

  const std::string self_;
  const tls_texts tls_;
  const std::shared_ptr<peer_traffic> traffic_ = std::make_shared<peer_traffic>();
  mutable std::mutex mutex_;
  mutable std::condition_variable_any changed_;
  std::map<std::string, std::shared_ptr<peer>, std::less<>> peers_;
  std::set<std::string, std::less<>> left_;  // were here, and are not
};

/// Stops when any of several tokens does.
class any_stop {
 public:
  any_stop(std::stop_token a, std::stop_token b)
      : a_(std::move(a), forward{source_}), b_(std::move(b), forward{source_}) {}
  std::stop_token token() const { return source_.get_token(); }

 private:
  struct forward {
    std::stop_source source;
    void operator()() { source.request_stop(); }
  };
  std::stop_source source_;
  std::stop_callback<forward> a_, b_;
};

}  // namespace kiln::gateway
