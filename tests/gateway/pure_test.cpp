#include <catch2/catch.hpp>

#include "gateway/control/control_requests.hpp"
#include "gateway/transport/listener.hpp"
#include "gateway/transport/reactors.hpp"
#include "gateway/control/status_convert.hpp"
#include "rpc_status.pb.h"

using namespace kiln;
using namespace kiln::gateway;
namespace ctl = moby::buildkit::v1;

TEST_CASE("an error keeps code, text and details through a gRPC status and back") {
  auto e = make_error(errc::not_found, "\"/missing\": not found");
  e.details.push_back({"github.com/moby/buildkit/errdefs.Vertex+json", R"({"digest":"sha256:1"})"});
  e.details.push_back({"type.googleapis.com/unknown", std::string("\x00\xff", 2)});
  auto s = to_grpc(e);
  CHECK(s.error_code() == grpc::StatusCode::NOT_FOUND);
  google::rpc::Status wire;
  REQUIRE(wire.ParseFromString(s.error_details()));
  CHECK(wire.code() == 5);
  CHECK(wire.message() == e.message);
  CHECK(wire.details(0).value() == R"({"digest":"sha256:1"})");
  CHECK(from_grpc(s) == e);
}

TEST_CASE(
    "a call whose client goes ends as cancelled, whatever those who work for it say when they are stopped") {
  ctl::SolveResponse response;
  auto call = unary_call<ctl::SolveResponse>::make("Control/Solve", &response);
  std::optional<errc> code;
  int stopped = 0;
  call->on_finish([&](const error* e) { code = e ? e->code : errc::ok; });
  call->on_cancel([&] {
    ++stopped;
    call->fail(make_error(errc::unavailable, "the daemon dropped the call"));
  });
  grpc::ServerUnaryReactor& client = *call;
  client.OnCancel();
  CHECK(code == errc::cancelled);
  CHECK(stopped == 1);
  call->on_cancel([&] { ++stopped; });  // it had gone before the work began
  CHECK(stopped == 2);
  client.OnDone();
}

TEST_CASE("an error without details needs no details header") {
  auto s = to_grpc(make_error(errc::unavailable, "gone"));
  CHECK(s.error_details().empty());
  CHECK(from_grpc(s) == make_error(errc::unavailable, "gone"));
}

TEST_CASE("an error with code ok never becomes success") {
  CHECK(to_grpc(make_error(errc::ok, "strange")).error_code() == grpc::StatusCode::UNKNOWN);
}

TEST_CASE("an error of any size fits into a client's headers, its largest details left out") {
  auto e = make_error(errc::unknown, "begins " + std::string(5 << 20, 'x') + " ends");
  e.details.push_back({"large", std::string(2 << 20, 'a')});
  e.details.push_back({"small", "kept"});
  e.details.push_back({"half", std::string(200 << 10, 'b')});
  auto s = to_grpc(e);
  CHECK(s.error_message().size() < (33 << 10));
  CHECK(s.error_message().starts_with("begins "));
  CHECK(s.error_message().ends_with(" ends"));
  CHECK((s.error_message().size() + s.error_details().size()) * 4 / 3 < (1 << 20));
  auto back = from_grpc(s);
  REQUIRE(back.details.size() == 2);
  CHECK(back.details[0].value == "kept");
  CHECK(back.details[1].type_url == "half");
}

TEST_CASE("unreadable details are dropped and code and text kept") {
  grpc::Status s(grpc::StatusCode::INTERNAL, "text", "\x08");
  CHECK(from_grpc(s) == make_error(errc::internal, "text"));
}

TEST_CASE("an error that is no UTF-8 goes out as text that is") {
  CHECK(to_grpc(make_error(errc::unknown, "x\xfe")).error_message() == "x\xef\xbf\xbd");
}

TEST_CASE("a small status stays one message") {
  ctl::StatusResponse s;
  s.add_vertexes()->set_digest("sha256:1");
  auto parts = split_status(std::move(s), 1 << 20);
  REQUIRE(parts.size() == 1);
  CHECK(parts[0].vertexes(0).digest() == "sha256:1");
}

TEST_CASE("logs are split at the limit, in order and without loss") {
  ctl::StatusResponse s;
  s.add_vertexes()->set_digest("sha256:1");
  std::string expected;
  for (int i = 0; i < 10; ++i) {
    auto* log = s.add_logs();
    log->set_vertex("sha256:1");
    log->set_stream(2);
    log->set_msg(std::string(i == 5 ? 2500 : 300, static_cast<char>('a' + i)));
    expected += log->msg();
  }
  auto parts = split_status(std::move(s), 1000);
  std::string got;
  CHECK(parts.front().vertexes_size() == 1);
  for (const auto& part : parts) {
    std::size_t bytes = 0;
    for (const auto& log : part.logs()) {
      CHECK(log.vertex() == "sha256:1");
      CHECK(log.stream() == 2);
      got += log.msg();
      bytes += log.msg().size();
    }
    CHECK(bytes <= 1000);
  }
  CHECK(got == expected);
}

TEST_CASE("what a client that does not read can do without is dropped, never what has begun or ended") {
  ctl::StatusResponse s;
  s.add_vertexes()->set_digest("sha256:1");
  s.add_logs()->set_msg("text");
  s.add_statuses()->set_id("under way");
  s.add_statuses()->set_id("done");
  s.mutable_statuses(1)->mutable_completed()->set_seconds(1);
  s.add_statuses()->set_id("under way too");
  s.add_warnings()->set_level(1);
  drop_passing(s);
  CHECK(s.vertexes_size() == 1);
  CHECK(s.warnings_size() == 1);
  CHECK(s.logs_size() == 0);
  REQUIRE(s.statuses_size() == 1);
  CHECK(s.statuses(0).id() == "done");
}

TEST_CASE("names that are no UTF-8 are repaired before they reach a client") {
  ctl::StatusResponse s;
  s.add_vertexes()->set_name("RUN \xff");
  auto parts = split_status(std::move(s), 1000);
  CHECK(parts[0].vertexes(0).name() == "RUN \xef\xbf\xbd");
}

TEST_CASE("the timestamp header is RFC 3339 with nanoseconds in UTC") {
  auto text = rfc3339_nano_now();
  REQUIRE(text.size() == 30);
  CHECK(text[10] == 'T');
  CHECK(text[19] == '.');
  CHECK(text.back() == 'Z');
}

TEST_CASE("addresses need a scheme, and a missing one is suggested") {
  auto missing = parse_listen_address("/run/x.sock");
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.error().message ==
        "address \"/run/x.sock\" does not contain proto, you meant \"unix:///run/x.sock\" ?");
  auto unknown = parse_listen_address("http://x");
  REQUIRE_FALSE(unknown.ok());
  CHECK(unknown.error().message.find("invalid protocol \"http\"") != std::string::npos);
  CHECK_FALSE(parse_listen_address("unix://").ok());
  CHECK_FALSE(parse_listen_address("fd://name").ok());
  CHECK(parse_listen_address("fd://")->kind == listen_address::kind::inherited);
  CHECK(parse_listen_address("tcp://[::1]:1")->target == "[::1]:1");
}
