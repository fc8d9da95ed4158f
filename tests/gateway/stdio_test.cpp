#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <grpcpp/create_channel_posix.h>

#include "fake_build.hpp"
#include "fakes.hpp"
#include "gateway.grpc.pb.h"
#include "gateway/bridge/stdio_server.hpp"
#include "health.grpc.pb.h"

using namespace kiln;
using namespace kiln::testing;

TEST_CASE("a frontend reaches its build over one socket, without a header") {
  actor_config config;
  caf::actor_system system(config);
  auto build = spawn_fake_build(system);
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  auto served = gateway::serve_on_fd(ends[0], system, build);
  REQUIRE(served.ok());
  ::fcntl(ends[1], F_SETFL, O_NONBLOCK);
  auto channel = grpc::CreateInsecureChannelFromFd("frontend", ends[1]);
  auto stub = gw::LLBBridge::NewStub(channel);
  {
    grpc::ClientContext context;
    gw::PongResponse pong;
    REQUIRE(stub->Ping(&context, {}, &pong).ok());
    CHECK(pong.llbcaps(0).id() == "file.base");
  }
  {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckResponse health;
    REQUIRE(grpc::health::v1::Health::NewStub(channel)->Check(&context, {}, &health).ok());
  }
  served->reset();  // the frontend sees its connection end
  grpc::ClientContext context;
  gw::PongResponse pong;
  CHECK(stub->Ping(&context, {}, &pong).error_code() == grpc::StatusCode::UNAVAILABLE);
  caf::anon_send_exit(build, caf::exit_reason::user_shutdown);
}

TEST_CASE("a frontend that leaves in the middle of a call hangs nobody") {
  actor_config config;
  caf::actor_system system(config);
  auto build = spawn_fake_build(system);
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  auto served = gateway::serve_on_fd(ends[0], system, build);
  REQUIRE(served.ok());
  ::fcntl(ends[1], F_SETFL, O_NONBLOCK);
  {
    auto channel = grpc::CreateInsecureChannelFromFd("frontend", ends[1]);
    auto stub = gw::LLBBridge::NewStub(channel);
    grpc::ClientContext context;
    gw::EvaluateResponse response;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds{20});
    CHECK(stub->Evaluate(&context, {}, &response).error_code() == grpc::StatusCode::DEADLINE_EXCEEDED);
  }
  served->reset();
  caf::anon_send_exit(build, caf::exit_reason::user_shutdown);
}
