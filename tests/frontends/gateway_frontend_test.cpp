#include <google/protobuf/util/message_differencer.h>

#include <catch2/catch.hpp>

#include <algorithm>

#include "frontends/gateway/gateway_frontend.hpp"
#include "frontends/gateway/stand_in.hpp"
#include "messages/told_code.hpp"
#include "tests/frontends/build_helper.hpp"

using namespace kiln;
using namespace kiln::frontends;
using namespace kiln::frontends::test;

namespace {

const std::string some_digest = "sha256:" + std::string(64, 'a');

bool has(const std::vector<std::string>& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

struct run {
  fake_host host;
  std::vector<frontend_process> processes;

  run() {
    host.images["*"].digest = some_digest;
    host.images["*"].config =
        R"({"config":{"Entrypoint":["/bin/frontend"],"Env":["A=b"],"Labels":{"moby.buildkit.frontend.caps":"one,moby.buildkit.frontend.inputs","moby.buildkit.frontend.network.none":"true"}}})";
    host.forwarded.mutable_result()->mutable_ref()->set_id("built in");
  }
  result<gw::Result> operator()(frontend_request request, gateway_frontend_options options = {}) {
    auto frontend = make_gateway_frontend(
        [this](frontend_host&, const frontend_process& p) -> result<gw::Result> {
          processes.push_back(p);
          gw::Result out;
          out.mutable_ref()->set_id("made");
          return out;
        },
        std::move(options));
    return frontend->solve(host, request);
  }
};

}  // namespace

TEST_CASE("a frontend image runs with its options in the environment, and knows the workers") {
  run go;
  go.host.worker_record.set_id("w1");
  (*go.host.worker_record.mutable_labels())["org.mobyproject.buildkit.worker.executor"] = "oci";
  go.host.worker_record.mutable_buildkitversion()->set_version("v1");
  auto r = go({{{"source", "example.com/frontend:1"}, {"target", "x"}}, {}});
  REQUIRE(r.ok());
  CHECK(r->ref().id() == "made");
  REQUIRE(go.processes.size() == 1);
  const auto& p = go.processes[0];
  CHECK(p.args == std::vector<std::string>{"/bin/frontend"});
  CHECK(p.ref == "ref1");
  CHECK(p.no_network);
  CHECK(has(p.env, "A=b"));
  CHECK(has(p.env, "BUILDKIT_FRONTEND_OPT_0=source=example.com/frontend:1"));
  CHECK(has(p.env, "BUILDKIT_FRONTEND_OPT_1=target=x"));
  CHECK(has(p.env, "BUILDKIT_SESSION_ID=session1"));
  CHECK(has(p.env, "BUILDKIT_EXPORTEDPRODUCT=buildkit"));
  // As BuildKit's client.WorkerInfo is marshalled.
  CHECK(has(p.env,
            R"(BUILDKIT_WORKERS=[{"id":"w1","labels":{"org.mobyproject.buildkit.worker.executor":"oci"},)"
            R"("platforms":[{"architecture":"amd64","os":"linux"}],"gcPolicy":null,)"
            R"("buildkitVersion":{"package":"","version":"v1","revision":""},"cdiDevices":null}])"));
  CHECK(go.host.resolves.at(0).ref() == "example.com/frontend:1");
}

TEST_CASE("a frontend image's files are marked as a frontend's, and it may know where they come from") {
  run go;
  REQUIRE(go({{{"source", "example.com/frontend:1@" + some_digest}}, {}}).ok());
  CHECK(go.host.resolves.at(0).ref() == "example.com/frontend:1@" + some_digest);
  auto ops = operations(go.processes.at(0).definition);
  REQUIRE(ops.size() == 1);
  CHECK(ops[0].op.source().identifier() == "docker-image://example.com/frontend:1@" + some_digest);
  CHECK(ops[0].op.source().attrs().at("image.recordtype") == "frontend");
  CHECK(google::protobuf::util::MessageDifferencer::Equals(go.host.solves.at(0).definition(),
                                                           go.processes[0].definition));
}

TEST_CASE("a frontend image must be named, allowed and able") {
  run go;
  auto allowed = allowed_repositories({"docker/dockerfile:1", "example.com/x@" + some_digest});
  REQUIRE(allowed.ok());
  CHECK(*allowed == std::vector<std::string>{"docker.io/docker/dockerfile", "example.com/x"});
  CHECK(allowed_repositories({"fine", "NOT"}).error().message ==
        "frontend.\"gateway.v0\".allowedRepositories: \"NOT\": invalid reference format: repository name "
        "(library/NOT) must be lowercase");

  CHECK(go({{}, {}}).error().message == "no source specified for gateway");
  CHECK(
      go({{{"source", "BAD"}}, {}}).error().message ==
      "invalid context name BAD: invalid reference format: repository name (library/BAD) must be lowercase");
  CHECK(go({{{"source", "other/thing"}}, {}}, {*allowed}).error().message ==
        "'other/thing' is not an allowed gateway source");
  CHECK(go({{{"source", "example.com/x"}}, {}}, {*allowed}).ok());
  // What is built in needs the permission, too: it works in the image's place.
  CHECK(go({{{"source", "docker/dockerfile:1"}}, {}}, {{"example.com/x"}}).error().message ==
        "'docker/dockerfile:1' is not an allowed gateway source");
  auto r = go({{{"source", "x"}, {"frontend.caps", "one,two+forward"}}, {}});
  REQUIRE_FALSE(r.ok());
  CHECK(r.error().message == "unsupported frontend capability two");
  CHECK(as_told(r.error()).code == errc::unimplemented);
  CHECK(as_told(r.error()).details.size() == 1);
}

TEST_CASE("old releases of docker/dockerfile that do not say that they take inputs get them") {
  for (bool old : {true, false}) {
    run go;
    go.host.images["*"].config = R"({"config":{}})";
    // 1.1.7
    if (old)
      go.host.images["*"].digest = "sha256:080bd74d8778f83e7b670de193362d8c593c8b14f5c8fb919d28ee8feda0d069";
    frontend_request request{{{"source", "docker/dockerfile@" + some_digest}}, {{"context", {}}}};
    CHECK(go(request).ok() == old);
    request.options["frontend.caps"] = "other";
    CHECK_FALSE(go(request).ok());
  }
}

TEST_CASE("the built-in Dockerfile frontend stands in for tags that are no newer, and for nothing else") {
  auto stands_in = [](const std::string& text) { return stands_in_for(parse_image_reference(text).value()); };
  for (const char* name : {"docker/dockerfile:1", "docker/dockerfile:1.9", "docker/dockerfile:1.9.0",
                           "docker.io/docker/dockerfile:1.24", "docker/dockerfile:1.24.0",
                           "docker/dockerfile:1-labs", "docker/dockerfile:1.0-experimental",
                           "docker/dockerfile:0.1", "docker/dockerfile-upstream:1.7-labs"}) {
    INFO(name);
    CHECK(stands_in(name));
  }
  auto pinned = "docker/dockerfile:1.9@" + some_digest;
  for (const auto& name :
       {std::string("docker/dockerfile:1.24.1"), std::string("docker/dockerfile:1.25"),
        std::string("docker/dockerfile:2"), std::string("docker/dockerfile"),
        std::string("docker/dockerfile:latest"), std::string("docker/dockerfile:master-labs"),
        std::string("docker/dockerfile:1.9-rc1"), std::string("docker/dockerfile:1.9.0.1"),
        std::string("docker/dockerfile:1."), std::string("docker/other:1"),
        std::string("example.com/docker/dockerfile:1"), pinned}) {
    INFO(name);
    CHECK_FALSE(stands_in(name));
  }
}

TEST_CASE("what is built in works in the place of docker/dockerfile, and the build's log says so") {
  run go;
  auto r = go({{{"source", "docker/dockerfile:1.9"}, {"cmdline", "docker/dockerfile:1.9 x"}, {"target", "t"}},
               {{"context", {}}}});
  REQUIRE(r.ok());
  CHECK(r->ref().id() == "built in");
  CHECK(go.processes.empty());
  CHECK(go.host.resolves.empty());
  CHECK(go.host.stood_in == std::vector<std::string>{"dockerfile.v0 for docker.io/docker/dockerfile:1.9"});
  REQUIRE(go.host.solves.size() == 1);
  const auto& asked = go.host.solves[0];
  CHECK(asked.frontend() == "dockerfile.v0");
  CHECK(asked.frontendopt().at("target") == "t");
  CHECK(asked.frontendopt().at("cmdline") == "docker/dockerfile:1.9 x");
  CHECK_FALSE(asked.frontendopt().contains("source"));
  CHECK(asked.frontendinputs().contains("context"));
}

TEST_CASE("the image itself is run where it is pinned, replaced, or not to be replaced") {
  SECTION("pinned") {
    run go;
    REQUIRE(go({{{"source", "docker/dockerfile:1.9@" + some_digest}}, {}}).ok());
    CHECK(go.processes.size() == 1);
    CHECK(go.host.resolves.at(0).ref() == "docker.io/docker/dockerfile:1.9@" + some_digest);
  }
  SECTION("the Dockerfile frontend is switched off") {
    run go;
    REQUIRE(go({{{"source", "docker/dockerfile:1"}}, {}}, {{}, false}).ok());
    CHECK(go.processes.size() == 1);
  }
  SECTION("a policy makes something else of it") {
    run go;
    go.host.may_stand_in.emplace("docker.io/docker/dockerfile:1", false);
    REQUIRE(go({{{"source", "docker/dockerfile:1"}}, {}}).ok());
    CHECK(go.processes.size() == 1);
  }
  SECTION("a policy denies it") {
    run go;
    go.host.may_stand_in.emplace("docker.io/docker/dockerfile:1", make_error(errc::permission_denied, "no"));
    CHECK(go({{{"source", "docker/dockerfile:1"}}, {}}).error().message == "no");
    CHECK(go.processes.empty());
  }
  SECTION("a named context takes its place") {
    run go;
    frontend_request request{{{"source", "docker/dockerfile:1"},
                              {"context:docker/dockerfile:1", "docker-image://example.com/mine:2"}},
                             {}};
    REQUIRE(go(request).ok());
    CHECK(go.processes.at(0).args == std::vector<std::string>{"/bin/frontend"});
    CHECK(operations(go.processes[0].definition).at(0).op.source().identifier() ==
          "docker-image://example.com/mine:2");
    CHECK(go.host.stood_in.empty());
    // Another context replaces nothing here.
    request.options = {{"source", "example.com/theirs:1"},
                       {"context:other", "docker-image://example.com/mine:2"}};
    REQUIRE(go(request).ok());
    CHECK(operations(go.processes[1].definition).at(0).op.source().identifier() ==
          "docker-image://example.com/theirs:1@" + some_digest);
  }
}
