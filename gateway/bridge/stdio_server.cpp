#include "gateway/bridge/stdio_server.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <grpcpp/grpcpp.h>
#include <grpcpp/server_posix.h>

#include "configs/gateway.hpp"
#include "gateway/bridge/bridge_service.hpp"
#include "gateway/control/health_service.hpp"

namespace kiln::gateway {

namespace {

namespace cfg = configs::gateway;

class connection_server_impl final : public connection_server {
 public:
  connection_server_impl(caf::actor_system& system, build_actor build,
                         handle_source<containers_actor> containers)
      : bridge_(system, std::move(build), std::move(containers)),
        health_({"moby.buildkit.v1.frontend.LLBBridge"}) {}
  ~connection_server_impl() override {
    if (!grpc_) return;
    grpc_->Shutdown(std::chrono::system_clock::now());
    grpc_->Wait();
  }
  bool start(int fd) {
    grpc::ServerBuilder builder;
    builder.SetMaxReceiveMessageSize(cfg::message_bytes_max);
    builder.SetMaxSendMessageSize(cfg::message_bytes_max);
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, cfg::metadata_bytes_max);
    builder.RegisterService(&bridge_);
    builder.RegisterService(&health_);
    grpc_ = builder.BuildAndStart();
    if (!grpc_) return false;
    grpc::AddInsecureChannelFromFd(grpc_.get(), fd);
    return true;
  }

 private:
  bridge_service bridge_;
  health_service health_;
  std::unique_ptr<grpc::Server> grpc_;
};

}  // namespace

result<std::unique_ptr<connection_server>> serve_on_fd(int fd, caf::actor_system& system, build_actor build,
                                                       std::function<containers_actor()> containers) {
  if (int flags = ::fcntl(fd, F_GETFL); flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
    return errno_error(errno, "serve a frontend");
  auto out = std::make_unique<connection_server_impl>(system, std::move(build), std::move(containers));
  if (!out->start(fd)) {
    ::close(fd);
    return make_error(errc::internal, "serve a frontend: the gRPC server did not start");
  }
  return std::unique_ptr<connection_server>(std::move(out));
}

}  // namespace kiln::gateway
