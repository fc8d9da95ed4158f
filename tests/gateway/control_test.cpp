#include <catch2/catch.hpp>

#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <thread>

#include "fake_build.hpp"
#include "fakes.hpp"
#include "gateway.grpc.pb.h"
#include "gateway/control/status_convert.hpp"
#include "health.grpc.pb.h"

using namespace kiln;
using namespace kiln::testing;

TEST_CASE("Info tells the versions") {
  gateway_fixture f;
  f.start();
  grpc::ClientContext context;
  ctl::InfoResponse response;
  auto s = f.control()->Info(&context, {}, &response);
  INFO(s.error_message());
  REQUIRE(s.ok());
  CHECK(response.buildkitversion().version() == "v1.2.3-test");
  CHECK(response.buildkitversion().package() == "github.com/moby/buildkit");
}

TEST_CASE("ListWorkers answers what the workers actor answers") {
  gateway_fixture f;
  f.start();
  grpc::ClientContext context;
  ctl::ListWorkersResponse response;
  REQUIRE(f.control()->ListWorkers(&context, {}, &response).ok());
  REQUIRE(response.record_size() == 1);
  CHECK(response.record(0).id() == "w0");
}

TEST_CASE("a service whose actor is down is unavailable") {
  gateway_fixture f;
  f.start();
  grpc::ClientContext context;
  ctl::DiskUsageResponse response;
  auto s = f.control()->DiskUsage(&context, {}, &response);
  CHECK(s.error_code() == grpc::StatusCode::UNAVAILABLE);
}

TEST_CASE("Solve hands the request over and returns the answer") {
  gateway_fixture f;
  f.behaviour->solve = [](auto*, ctl::SolveRequest& r) -> caf::result<ctl::SolveResponse> {
    ctl::SolveResponse response;
    (*response.mutable_exporterresponse())["ref"] = r.ref();
    return response;
  };
  f.start();
  grpc::ClientContext context;
  ctl::SolveRequest request;
  request.set_ref("r1");
  request.add_exporters()->set_type("image");
  ctl::SolveResponse response;
  REQUIRE(f.control()->Solve(&context, request, &response).ok());
  CHECK(response.exporterresponse().at("ref") == "r1");
  CHECK(f.behaviour->solved.get()->exporters(0).type() == "image");
}

TEST_CASE("a failed Solve reaches the client with code, text and details") {
  gateway_fixture f;
  auto e = make_error(errc::invalid_argument, "dockerfile parse error on line 3: unknown instruction: FOO");
  e.details.push_back(
      {"github.com/moby/buildkit/errdefs.Source+json", R"({"info":{"filename":"Dockerfile"}})"});
  f.behaviour->solve = [e](auto*, ctl::SolveRequest&) -> caf::result<ctl::SolveResponse> {
    return to_caf(e);
  };
  f.start();
  grpc::ClientContext context;
  ctl::SolveResponse response;
  auto s = f.control()->Solve(&context, {}, &response);
  CHECK(gateway::from_grpc(s) == e);
}

TEST_CASE("a client that vanishes cancels its build") {
  gateway_fixture f;
  f.start();
  auto stub = f.control();
  grpc::ClientContext context;
  ctl::SolveRequest request;
  request.set_ref("r-cancel");
  grpc::Status verdict;
  std::thread client([&] {
    ctl::SolveResponse response;
    verdict = stub->Solve(&context, request, &response);
  });
  CHECK(f.behaviour->solved.get());
  context.TryCancel();
  client.join();
  CHECK(verdict.error_code() == grpc::StatusCode::CANCELLED);
  CHECK(f.behaviour->cancelled.get() == "r-cancel");
  CHECK(f.behaviour->requester_down.get() == true);
}

TEST_CASE("a build whose actor dies fails with unavailable and hangs nobody") {
  gateway_fixture f;
  f.start();
  auto stub = f.control();
  std::thread killer([&] {
    f.behaviour->solved.get();
    caf::anon_send_exit(f.actors.front(), caf::exit_reason::kill);
  });
  grpc::ClientContext context;
  ctl::SolveResponse response;
  CHECK(stub->Solve(&context, {}, &response).error_code() == grpc::StatusCode::UNAVAILABLE);
  killer.join();
}

TEST_CASE("Status sends the time header first, then every delta, then ends with the build") {
  gateway_fixture f;
  f.behaviour->watch = [](status_listener listener) {
    for (int i = 0; i < 100; ++i) {
      ctl::StatusResponse delta;
      auto* log = delta.add_logs();
      log->set_vertex("v");
      log->set_msg(std::string(50'000, static_cast<char>('a' + i % 26)));
      caf::anon_send(listener, std::move(delta));
    }
    caf::anon_send(listener, done_atom::value);
  };
  f.start();
  auto stub = f.control();
  grpc::ClientContext context;
  ctl::StatusRequest request;
  request.set_ref("r");
  auto stream = stub->Status(&context, request);
  stream->WaitForInitialMetadata();
  CHECK(context.GetServerInitialMetadata().count("buildkit-current-timestamp") == 1);
  ctl::StatusResponse delta;
  std::size_t bytes = 0;
  int i = 0;
  while (stream->Read(&delta))
    for (const auto& log : delta.logs()) {
      CHECK(log.msg()[0] == static_cast<char>('a' + i++ % 26));
      bytes += log.msg().size();
    }
  CHECK(stream->Finish().ok());
  CHECK(bytes == 100 * 50'000);
}

TEST_CASE("Status of an unknown build fails with its error") {
  gateway_fixture f;
  f.start();
  auto stub = f.control();
  grpc::ClientContext context;
  ctl::StatusRequest request;
  request.set_ref("nobody");
  auto stream = stub->Status(&context, request);
  ctl::StatusResponse delta;
  CHECK_FALSE(stream->Read(&delta));
  auto s = stream->Finish();
  CHECK(s.error_code() == grpc::StatusCode::NOT_FOUND);
  CHECK(s.error_message() == "no such job nobody");
}

TEST_CASE("a Status reader that leaves takes its listener with it") {
  gateway_fixture f;
  auto down = std::make_shared<box<bool>>();
  auto& system = f.system;
  auto watcher = std::make_shared<caf::actor>();
  f.behaviour->watch = [&system, watcher, down](status_listener listener) {
    *watcher = system.spawn(
        [listener, down](caf::event_based_actor* self, caf::unit_t) {
          self->monitor(caf::actor_cast<caf::actor>(listener));
          self->set_down_handler([self, down](caf::down_msg&) {
            down->put(true);
            self->quit();
          });
          return caf::behavior{[](int) {}};
        },
        caf::unit);
    ctl::StatusResponse delta;
    delta.add_vertexes()->set_digest("v");
    caf::anon_send(listener, std::move(delta));
  };
  f.start();
  auto stub = f.control();
  {
    grpc::ClientContext context;
    auto stream = stub->Status(&context, {});
    ctl::StatusResponse delta;
    REQUIRE(stream->Read(&delta));
    context.TryCancel();
    CHECK(stream->Finish().error_code() == grpc::StatusCode::CANCELLED);
  }
  CHECK(down->get() == true);
}

TEST_CASE("the bridge finds its build by header and says what is missing otherwise") {
  gateway_fixture f;
  f.behaviour->build = spawn_fake_build(f.system);
  f.actors.push_back(caf::actor_cast<caf::actor>(f.behaviour->build));
  f.start();
  auto stub = gw::LLBBridge::NewStub(f.channel());
  auto with_build = [](grpc::ClientContext& c, const char* id) {
    c.AddMetadata("buildkit-controlapi-buildid", id);
  };
  {
    grpc::ClientContext context;
    with_build(context, "known");
    gw::PongResponse pong;
    REQUIRE(stub->Ping(&context, {}, &pong).ok());
    CHECK(pong.llbcaps(0).id() == "file.base");
  }
  {
    grpc::ClientContext context;
    with_build(context, "known");
    gw::ReadFileRequest request;
    request.set_filepath("Dockerfile");
    gw::ReadFileResponse response;
    REQUIRE(stub->ReadFile(&context, request, &response).ok());
    CHECK(response.data() == "content of Dockerfile");
  }
  {
    grpc::ClientContext context;
    gw::PongResponse pong;
    auto s = stub->Ping(&context, {}, &pong);
    CHECK(s.error_message() == "forwarding Ping: no buildid found in context");
  }
  {
    grpc::ClientContext context;
    with_build(context, "stranger");
    gw::PongResponse pong;
    auto s = stub->Ping(&context, {}, &pong);
    CHECK(s.error_code() == grpc::StatusCode::NOT_FOUND);
    CHECK(s.error_message() == "forwarding Ping: no such job stranger");
  }
}

TEST_CASE("health answers for the server and its services") {
  gateway_fixture f;
  f.start();
  auto stub = grpc::health::v1::Health::NewStub(f.channel());
  for (auto name : {"", "moby.buildkit.v1.Control"}) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(name);
    grpc::health::v1::HealthCheckResponse response;
    REQUIRE(stub->Check(&context, request, &response).ok());
    CHECK(response.status() == grpc::health::v1::HealthCheckResponse::SERVING);
  }
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("nonsense");
  grpc::health::v1::HealthCheckResponse response;
  CHECK(stub->Check(&context, request, &response).error_code() == grpc::StatusCode::NOT_FOUND);
}

TEST_CASE("draining refuses new builds, lets running ones finish and tells when they did not") {
  gateway_fixture f;
  f.start();
  auto stub = f.control();
  grpc::ClientContext running;
  grpc::Status verdict;
  std::thread client([&] {
    ctl::SolveResponse response;
    verdict = stub->Solve(&running, {}, &response);
  });
  CHECK(f.behaviour->solved.get());
  CHECK_FALSE(f.server->drain(std::chrono::milliseconds{1}));
  grpc::ClientContext late;
  ctl::SolveResponse response;
  auto s = stub->Solve(&late, {}, &response);
  CHECK(s.error_code() == grpc::StatusCode::UNAVAILABLE);
  CHECK(s.error_message() == "the daemon is shutting down");
  running.TryCancel();
  client.join();
  CHECK_FALSE(verdict.ok());
  CHECK(f.server->drain(std::chrono::seconds{10}));
  CHECK_FALSE(std::filesystem::exists(f.dir.path / "kilnd.sock"));
}

TEST_CASE("shutdown ends streams that would last for ever") {
  gateway_fixture f;
  f.behaviour->watch = [](status_listener) {};
  f.start();
  auto stub = f.control();
  grpc::ClientContext context;
  auto stream = stub->Status(&context, {});
  stream->WaitForInitialMetadata();
  f.server->shutdown();
  ctl::StatusResponse delta;
  CHECK_FALSE(stream->Read(&delta));
  CHECK_FALSE(stream->Finish().ok());
}

TEST_CASE("connections that send nothing or garbage disturb nobody") {
  gateway_fixture f;
  f.start();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, (f.dir.path / "kilnd.sock").c_str());
  for (int i = 0; i < 50; ++i) {
    int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    if (i % 2) {
      std::string garbage(3000, static_cast<char>(i));
      [[maybe_unused]] auto n = ::send(fd, garbage.data(), garbage.size(), MSG_NOSIGNAL);
    }
    ::close(fd);
  }
  grpc::ClientContext context;
  ctl::InfoResponse response;
  CHECK(f.control()->Info(&context, {}, &response).ok());
}
