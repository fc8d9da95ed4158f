// session_caller over a gRPC channel: what jobs use to call a client. Thread-safe.
#pragma once

#include <grpcpp/channel.h>

#include <atomic>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "messages/session.hpp"

namespace kiln::gateway {

struct session_identity {
  std::string id;
  std::string shared_key;
  std::vector<std::string> methods;  // "/service/Method", any case
};

class channel_session_caller final : public session_caller {
 public:
  channel_session_caller(session_identity identity, std::shared_ptr<grpc::Channel> channel);

  const std::string& id() const override { return identity_.id; }
  const std::string& shared_key() const override { return identity_.shared_key; }
  bool supports(std::string_view method) const override;
  std::vector<std::string> methods() const override { return identity_.methods; }
  result<std::string> call(std::string_view method, std::string_view request, const call_metadata& metadata,
                           std::chrono::milliseconds timeout, std::stop_token stop) override;
  result<std::unique_ptr<message_stream>> open(std::string_view method, const call_metadata& metadata,
                                               std::stop_token stop) override;

  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  /// New calls fail from now on; those under way fail when the tunnel's socket closes.
  void close() { closed_ = true; }

 private:
  error gone() const;

  session_identity identity_;
  std::set<std::string> methods_;  // lower case
  std::shared_ptr<grpc::Channel> channel_;
  std::atomic<bool> closed_{false};
};

}  // namespace kiln::gateway
