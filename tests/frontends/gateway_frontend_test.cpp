#include <catch2/catch.hpp>

#include <algorithm>

#include "fake_host.hpp"
#include "frontends/gateway/gateway_frontend.hpp"

using namespace kiln;
using namespace kiln::frontends;
using namespace kiln::frontends::test;

namespace {

bool has(const std::vector<std::string>& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

struct run {
  fake_host host;
  std::vector<frontend_process> processes;

  run() {
    host.images["*"].digest = "sha256:" + std::string(64, 'a');
    host.images["*"].config =
        R"({"config":{"Entrypoint":["/bin/frontend"],"Env":["A=b"],"Labels":{"moby.buildkit.frontend.caps":"one,moby.buildkit.frontend.inputs","moby.buildkit.frontend.network.none":"true"}}})";
  }
  result<gw::Result> operator()(frontend_request request, std::vector<std::string> allowed = {}) {
    auto frontend = make_gateway_frontend(
        [this](frontend_host&, const frontend_process& p) -> result<gw::Result> {
          processes.push_back(p);
          gw::Result out;
          out.mutable_ref()->set_id("made");
          return out;
        },
        std::move(allowed));
    return frontend->solve(host, request);
  }
};

}  // namespace

TEST_CASE("a frontend image runs with its options in the environment") {
  run go;
  auto r = go({{{"source", "docker/dockerfile:1"}, {"target", "x"}}, {}});
  REQUIRE(r.ok());
  CHECK(r->ref().id() == "made");
  REQUIRE(go.processes.size() == 1);
  const auto& p = go.processes[0];
  CHECK(p.args == std::vector<std::string>{"/bin/frontend"});
  CHECK(p.ref == "ref1");
  CHECK(p.no_network);
  CHECK(has(p.env, "A=b"));
  CHECK(has(p.env, "BUILDKIT_FRONTEND_OPT_0=source=docker/dockerfile:1"));
  CHECK(has(p.env, "BUILDKIT_FRONTEND_OPT_1=target=x"));
  CHECK(has(p.env, "BUILDKIT_SESSION_ID=session1"));
  CHECK(go.host.resolves.at(0).ref() == "docker.io/docker/dockerfile:1");
}

TEST_CASE("a frontend image must be named, allowed and able") {
  run go;
  CHECK(go({{}, {}}).error().message == "no source specified for gateway");
  CHECK(go({{{"source", "other/thing"}}, {}}, {"docker.io/docker/dockerfile"}).error().message ==
        "'other/thing' is not an allowed gateway source");
  CHECK(go({{{"source", "docker/dockerfile"}}, {}}, {"docker.io/docker/dockerfile"}).ok());
  auto r = go({{{"source", "x"}, {"frontend.caps", "one,two+forward"}}, {}});
  REQUIRE_FALSE(r.ok());
  CHECK(r.error().message == "unsupported frontend capability two");
  CHECK(r.error().details.size() == 1);
}
