// A client with a valid certificate of a node, that says what no node would.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <fstream>
#include <limits>

#include <grpcpp/grpcpp.h>

#include "gateway/peer/peer_requests.hpp"
#include "gateway/peer/peer_service.hpp"
#include "peer_nodes.hpp"
#include "secrets.pb.h"

using namespace kiln;
using namespace kiln::testing;

namespace {

constexpr auto get_secret = "/moby.buildkit.secrets.v1.Secrets/GetSecret";

std::string secret(const std::string& id) {
  moby::buildkit::secrets::v1::GetSecretRequest r;
  r.set_id(id);
  return r.SerializeAsString();
}

pb::Op step_with_secret() {
  pb::Op op;
  op.mutable_exec()->add_secretenv()->set_id("known");
  return op;
}

struct hostile {
  node a{"a"};
  std::shared_ptr<test::fake_session> session = std::make_shared<test::fake_session>("s1");
  std::shared_ptr<void> grant;  // for node b

  hostile() {
    session->on_call(get_secret, [](std::string_view, const call_metadata&) -> result<std::string> {
      return std::string("the secret");
    });
    a.sessions.add(session);
    grant = a.grants->add("b", grant_of(step_with_secret(), {{"s1"}}));
  }
  std::unique_ptr<gateway::peer_api::Peer::Stub> as(const std::string& certificate) {
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = certs().text("ca.pem");
    tls.pem_cert_chain = certs().text(certificate + ".pem");
    tls.pem_private_key = certs().text(certificate + ".key");
    grpc::ChannelArguments args;
    args.SetSslTargetNameOverride("a");
    args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return gateway::peer_api::Peer::NewStub(
        grpc::CreateCustomChannel(a.server->address(), grpc::SslCredentials(tls), args));
  }
  static gateway::peer_api::SessionFrame open(const std::string& session, const std::string& method,
                                              const std::string& request) {
    gateway::peer_api::SessionFrame out;
    out.mutable_open()->set_session(session);
    out.mutable_open()->set_method(method);
    out.mutable_open()->set_request(request);
    out.mutable_open()->set_unary(true);
    return out;
  }
  /// What a call is answered with: the message, or the code of its verdict or of the call itself.
  std::string ask(gateway::peer_api::Peer::Stub& stub, const gateway::peer_api::SessionFrame& first) {
    grpc::ClientContext context;
    auto stream = stub.SessionCall(&context);
    stream->Write(first);
    stream->WritesDone();
    std::string out;
    gateway::peer_api::SessionFrame answer;
    while (stream->Read(&answer)) {
      if (answer.kind_case() == gateway::peer_api::SessionFrame::kMessage) out = answer.message();
      if (answer.has_verdict() && !answer.verdict().status().empty()) out = "refused";
    }
    auto end = stream->Finish();
    return end.ok() ? out : "error " + std::to_string(end.error_code());
  }
};

}  // namespace

TEST_CASE("a session answers the node that its step was given to, with what the step needs") {
  hostile h;
  auto b = h.as("node"), c = h.as("other_node"), nameless = h.as("nameless");
  CHECK(h.ask(*b, h.open("s1", get_secret, secret("known"))) == "the secret");
  CHECK(h.ask(*b, h.open("s1", get_secret, secret("other"))) == "refused");
  CHECK(h.ask(*b, h.open("s1", "/moby.filesync.v1.FileSync/DiffCopy", "")) == "refused");
  CHECK(h.ask(*c, h.open("s1", get_secret, secret("known"))) == "refused");
  CHECK(h.ask(*nameless, h.open("s1", get_secret, secret("known"))) == "refused");
  auto told = [&](gateway::peer_api::Peer::Stub& stub, const std::string& id) {
    grpc::ClientContext context;
    gateway::peer_api::SessionInfoRequest request;
    request.set_id(id);
    request.set_wait_ms(std::numeric_limits<std::int64_t>::max());
    gateway::peer_api::SessionInfoResponse answer;
    return stub.SessionInfo(&context, request, &answer).error_code();
  };
  CHECK(told(*b, "s1") == grpc::StatusCode::OK);
  CHECK(told(*b, "s2") == grpc::StatusCode::NOT_FOUND);
  CHECK(told(*c, "s1") == grpc::StatusCode::NOT_FOUND);
  h.grant.reset();  // the step has ended
  CHECK(h.ask(*b, h.open("s1", get_secret, secret("known"))) == "refused");
  CHECK(told(*b, "s1") == grpc::StatusCode::NOT_FOUND);
}

TEST_CASE("a session call with headers that gRPC does not take is an error of that call") {
  hostile h;
  auto b = h.as("node");
  for (std::string key :
       {"", "Upper", "with space", "new\nline", ":path", "grpc-timeout", "te", "\xff", "a/b"}) {
    auto frame = h.open("s1", get_secret, secret("known"));
    auto& header = *frame.mutable_open()->add_metadata();
    if (key == "\xff") continue;  // protobuf does not carry it
    header.set_key(key);
    header.set_value("x");
    CAPTURE(key);
    CHECK(h.ask(*b, frame) == "error 3");
  }
  auto frame = h.open("s1", get_secret, secret("known"));
  auto& header = *frame.mutable_open()->add_metadata();
  header.set_key("key");
  header.set_value("line\nbreak");
  CHECK(h.ask(*b, frame) == "error 3");
  for (int i = 0; i < 10'000; ++i) {
    auto& more = *frame.mutable_open()->add_metadata();
    more.set_key("k");
    more.set_value("v");
  }
  CHECK(h.ask(*b, frame) == "error 3");
  CHECK(h.ask(*b, h.open("s1", get_secret, secret("known"))) == "the secret");
}

TEST_CASE("frames that open nothing, and ids that are none, are refused") {
  hostile h;
  auto b = h.as("node");
  gateway::peer_api::SessionFrame message;
  message.set_message("first");
  CHECK(h.ask(*b, message) == "error 3");
  auto late = h.open("s1", get_secret, secret("known"));
  late.mutable_open()->set_timeout_ms(-5);
  CHECK(h.ask(*b, late) == "error 3");
  for (std::string id : {std::string(), std::string("b!s1"), std::string(100'000, 's')}) {
    CHECK(h.ask(*b, h.open(id, get_secret, secret("known"))) == "error 3");
    grpc::ClientContext context;
    gateway::peer_api::DescribeRefRequest request;
    request.set_id(id);
    auto stream = b->DescribeRef(&context, request);
    gateway::peer_api::DescribeRefResponse answer;
    CHECK_FALSE(stream->Read(&answer));
    CHECK(stream->Finish().error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  }
}

TEST_CASE("headers that are let through are those that gRPC takes") {
  CHECK(gateway::check_metadata(
            {{"buildkit.ssh.id", "x"}, {"a_b-c.0", "~ "}, {"x-bin", std::string("\0\xff", 2)}})
            .ok());
  for (std::string key : {"", "A", "a b", "a:b", ":a", "\n", "\x80"})
    CHECK_FALSE(gateway::check_metadata({{key, "x"}}).ok());
  for (std::string value : {"\n", "\x7f", "\x80"}) CHECK_FALSE(gateway::check_metadata({{"a", value}}).ok());
}
