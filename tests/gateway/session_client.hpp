// The client's side of a session in C++: a real gRPC server at the far end of a Control.Session stream.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <grpcpp/grpcpp.h>
#include <grpcpp/server_posix.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "control.grpc.pb.h"

namespace kiln::testing {

class session_client {
 public:
  session_client(std::shared_ptr<grpc::Channel> channel, const std::string& id, grpc::Server* server,
                 const std::vector<std::string>& methods,
                 const std::vector<std::pair<std::string, std::string>>& more = {})
      : stub_(moby::buildkit::v1::Control::NewStub(channel)) {
    context_.AddMetadata("x-docker-expose-session-uuid", id);
    context_.AddMetadata("x-docker-expose-session-sharedkey", "shared-" + id);
    for (const auto& m : methods) context_.AddMetadata("x-docker-expose-session-grpc-method", m);
    for (const auto& [key, value] : more) context_.AddMetadata(key, value);
    stream_ = stub_->Session(&context_);
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
      throw std::runtime_error("socketpair");
    fd_ = ends[0];
    ::fcntl(ends[1], F_SETFL, O_NONBLOCK);
    if (server) grpc::AddInsecureChannelFromFd(server, ends[1]);
    else far_ = ends[1];
    up_ = std::thread([this] {
      std::string buffer(64 << 10, '\0');
      for (;;) {
        auto n = ::read(fd_, buffer.data(), buffer.size());
        if (n <= 0) break;
        moby::buildkit::v1::BytesMessage message;
        message.set_data(buffer.data(), static_cast<std::size_t>(n));
        if (!stream_->Write(message)) break;
      }
    });
    down_ = std::thread([this] {
      moby::buildkit::v1::BytesMessage message;
      while (stream_->Read(&message)) {
        std::string_view data = message.data();
        while (!data.empty()) {
          auto n = ::send(fd_, data.data(), data.size(), MSG_NOSIGNAL);
          if (n <= 0) break;
          data.remove_prefix(static_cast<std::size_t>(n));
        }
      }
      ::shutdown(fd_, SHUT_RDWR);
    });
  }
  ~session_client() {
    if (!finished_) {
      context_.TryCancel();
      finish();
    }
    ::close(fd_);
    if (far_ >= 0) ::close(far_);
  }
  /// Half-closes as a well-behaved client does, and waits for the daemon's end.
  grpc::Status close() {
    ::shutdown(fd_, SHUT_RD);
    if (up_.joinable()) up_.join();
    stream_->WritesDone();
    return finish();
  }
  /// As a client whose process is killed.
  void vanish() { context_.TryCancel(); }
  /// Waits until the daemon ends the session.
  grpc::Status finish() {
    down_.join();
    if (up_.joinable()) up_.join();
    finished_ = true;
    return stream_->Finish();
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<moby::buildkit::v1::Control::Stub> stub_;
  std::unique_ptr<
      grpc::ClientReaderWriter<moby::buildkit::v1::BytesMessage, moby::buildkit::v1::BytesMessage>>
      stream_;
  std::thread up_, down_;
  int fd_ = -1;
  int far_ = -1;
  bool finished_ = false;
};

}  // namespace kiln::testing
