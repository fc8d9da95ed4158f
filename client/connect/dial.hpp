// From an address and TLS files to a gRPC channel, and waiting for the daemon behind it.
#pragma once

#include <chrono>
#include <memory>
#include <stop_token>
#include <string>

#include "base/result.hpp"
#include "client/connect/address.hpp"

namespace grpc {
class Channel;
class Status;
}  // namespace grpc

namespace kiln::client {

struct tls_options {
  std::string server_name;
  std::string ca_cert;  // files
  std::string cert;
  std::string key;
  std::string directory;  // ca.pem/cert.pem/key.pem or ca.crt/tls.crt/tls.key
};

/// The files a TLS directory stands for. invalid_argument when it is mixed with single files or misses one.
/// Source: buildctl common.go.
result<tls_options> resolve_tls(tls_options options);

/// Opens the channel. Unix sockets are tried at once, so that an absent daemon is reported as such:
/// unavailable "no daemon at unix:///…: No such file or directory".
result<std::shared_ptr<grpc::Channel>> dial(const std::string& address, const tls_options& tls);
/// A channel over a connected socket.
std::shared_ptr<grpc::Channel> channel_from_fd(int fd);
/// Connects to a unix socket; the errno as error.
result<int> connect_unix(const std::string& path);

/// Asks Info until the daemon answers. deadline_exceeded after `timeout`.
status wait_until_ready(const std::shared_ptr<grpc::Channel>& channel, std::chrono::milliseconds timeout,
                        std::stop_token stop);

/// A gRPC status as ours, with its typed details; ok must not be passed.
error from_grpc(const grpc::Status& s);
/// The other way round, for the services we offer.
grpc::Status to_grpc(const error& e);

/// Biggest gRPC message either way, in bytes.
inline constexpr int grpc_message_bytes_max = 16 << 20;

}  // namespace kiln::client
