#include <catch2/catch.hpp>

#include "tests/frontends/build_helper.hpp"

using namespace kiln;
using namespace kiln::frontends::test;

TEST_CASE("a RUN on an image becomes an image source and an exec with upstream's names") {
  dockerfile_build b;
  b.build("FROM busybox\nRUN echo hi\n");
  auto names = b.names();
  REQUIRE(names.size() == 2);
  CHECK(names[0].starts_with("[1/2] FROM docker.io/library/busybox:latest@sha256:"));
  CHECK(names[1] == "[2/2] RUN echo hi");
  auto run = b.op_named("[2/2] RUN echo hi");
  const auto& exec = run.op.exec();
  CHECK(std::vector<std::string>(exec.meta().args().begin(), exec.meta().args().end()) ==
        std::vector<std::string>{"/bin/sh", "-c", "echo hi"});
  CHECK(exec.meta().env(0) == "PATH=/bin");
  CHECK(exec.meta().cwd() == "/");
  REQUIRE(exec.mounts_size() == 1);
  CHECK(exec.mounts(0).dest() == "/");
  CHECK(exec.mounts(0).output() == 0);
  CHECK(run.op.platform().architecture() == "amd64");
  CHECK(run.metadata.description().at("com.docker.dockerfile.v1.command") == "RUN echo hi");
  CHECK(run.metadata.caps().contains("exec.meta.base"));
}

TEST_CASE("the image configuration is inherited, changed and given a history") {
  dockerfile_build b;
  b.build(
      "FROM busybox\nENV A=1 B=\"two words\"\nLABEL x=y\nWORKDIR /srv\nEXPOSE 80 9000-9001/udp\nVOLUME "
      "/data\n"
      "USER 1000:1000\nSTOPSIGNAL SIGTERM\nHEALTHCHECK --interval=30s CMD true\nENTRYPOINT [\"/app\"]\n"
      "SHELL [\"/bin/bash\", \"-c\"]\nONBUILD RUN ls\nCMD run it\n");
  auto image = b.config();
  const auto& config = image["config"];
  CHECK(config["Env"] == nlohmann::ordered_json{"PATH=/bin", "A=1", "B=two words"});
  CHECK(config["Labels"]["x"] == "y");
  CHECK(config["WorkingDir"] == "/srv");
  CHECK(config["ExposedPorts"].dump() == R"({"80/tcp":{},"9000/udp":{},"9001/udp":{}})");
  CHECK(config["Volumes"].contains("/data"));
  CHECK(config["User"] == "1000:1000");
  CHECK(config["StopSignal"] == "SIGTERM");
  CHECK(config["Healthcheck"].dump() == R"({"Test":["CMD-SHELL","true"],"Interval":30000000000})");
  CHECK(config["Entrypoint"] == nlohmann::ordered_json{"/app"});
  CHECK(config["Cmd"] == nlohmann::ordered_json{"/bin/bash", "-c", "run it"});
  CHECK(config["OnBuild"] == nlohmann::ordered_json{"RUN ls"});
  const auto& history = image["history"];
  CHECK(history[0]["created_by"] == "ADD rootfs");
  CHECK(history[1]["created_by"] == "ENV A=1 B=two words");
  CHECK(history[1]["comment"] == "buildkit.dockerfile.v0");
  CHECK(history[1]["empty_layer"] == true);
  CHECK(history[3]["created_by"] == "WORKDIR /srv");
  CHECK_FALSE(history[3].contains("empty_layer"));
  CHECK(history.back()["created_by"] == "CMD [\"/bin/bash\" \"-c\" \"run it\"]");
}

TEST_CASE("only the stages that the target needs are built") {
  dockerfile_build b;
  b.host.add_image("docker.io/library/unused:latest", image_json("{}"));
  b.build(
      "FROM busybox AS base\nRUN one\nFROM unused AS other\nRUN never\nFROM scratch\nCOPY --from=base /a "
      "/b\n");
  for (const auto& name : b.names()) CHECK(name.find("never") == std::string::npos);
  CHECK(b.host.resolves.size() == 1);
  CHECK(b.host.resolves[0].logname() == "[internal] load metadata for docker.io/library/busybox:latest");
  auto copy = b.op_named("[stage-2 1/1] COPY --from=base /a /b");
  const auto& action = copy.op.file().actions(0);
  CHECK(action.input() == -1);
  CHECK(action.secondaryinput() == 0);
  CHECK(action.copy().src() == "/a");
  CHECK(action.copy().dest() == "/b");
  CHECK(action.copy().mode() == -1);
  CHECK(action.copy().followsymlink());
  CHECK(action.copy().dircopycontents());
  CHECK(action.copy().createdestpath());
}

TEST_CASE("only the used paths of the context are requested, without what is ignored") {
  dockerfile_build b;
  b.host.locals["context"][".dockerignore"] = "# no\n/node_modules/\n!keep\n";
  b.build("FROM scratch\nCOPY src/main.c lib/ /app/\nADD data.tar /data/\n");
  auto context = b.op_named("[internal] load build context");
  const auto attrs = context.op.source().attrs();
  CHECK(context.op.source().identifier() == "local://context");
  CHECK(attrs.at("local.followpaths") == R"(["data.tar","lib","src/main.c"])");
  CHECK(attrs.at("local.excludepatterns") == R"(["node_modules","!keep"])");
  CHECK(attrs.at("local.session") == "session1");
  CHECK(attrs.at("local.sharedkeyhint") == "context");
}

TEST_CASE("copying the whole context requests everything") {
  dockerfile_build b;
  b.build("FROM scratch\nCOPY src /a\nCOPY . /app\n");
  CHECK_FALSE(b.op_named("[internal] load build context").op.source().attrs().contains("local.followpaths"));
}

TEST_CASE("COPY --link merges the files over the base") {
  dockerfile_build b;
  b.build("FROM busybox\nCOPY --link a /a\n");
  auto merge = b.op_named("[2/2] LINK COPY --link a /a");
  REQUIRE(merge.op.merge().inputs_size() == 2);
  CHECK_FALSE(merge.op.has_platform());
  auto files = b.op_named("[2/2] COPY --link a /a");
  CHECK(files.op.file().actions(0).input() == -1);
  CHECK(merge.op.inputs(1).digest() == files.digest);
  CHECK(files.metadata.progress_group().weak());
  CHECK(merge.metadata.progress_group().id() == files.metadata.progress_group().id());
  CHECK_FALSE(merge.metadata.progress_group().weak());
}

TEST_CASE("RUN mounts of every type become mounts in upstream's order") {
  dockerfile_build b;
  b.request.options["build-arg:BUILDKIT_CACHE_MOUNT_NS"] = "ns";
  b.build(
      "FROM busybox AS tools\nFROM busybox\nWORKDIR /w\n"
      "RUN --mount=type=cache,target=/root/.cache,sharing=locked,id=go "
      "--mount=type=bind,from=tools,source=/bin,target=/tools --mount=target=src,rw "
      "--mount=type=tmpfs,target=/tmp,size=64m --mount=type=secret,id=token,env=TOKEN "
      "--mount=type=secret,id=file,mode=0440,required --mount=type=ssh make\n");
  const auto views = b.ops();
  const auto& exec = views.back().op.exec();
  std::vector<std::string> dests;
  for (const auto& m : exec.mounts()) dests.push_back(m.dest());
  CHECK(dests == std::vector<std::string>{"/", "/root/.cache", "/tmp", "/tools", "/w/src",
                                          "/run/secrets/file", "/run/buildkit/ssh_agent.0"});
  CHECK(exec.mounts(1).cacheopt().id() == "ns/go");
  CHECK(exec.mounts(1).cacheopt().sharing() == pb::CacheSharingOpt::LOCKED);
  CHECK(exec.mounts(1).output() == -1);
  CHECK(exec.mounts(2).tmpfsopt().size() == 64 << 20);
  CHECK(exec.mounts(3).readonly());
  CHECK(exec.mounts(3).selector() == "/bin");
  CHECK_FALSE(exec.mounts(4).readonly());
  CHECK(exec.mounts(4).output() == -1);
  CHECK(exec.mounts(5).secretopt().mode() == 0440);
  CHECK_FALSE(exec.mounts(5).secretopt().optional());
  REQUIRE(exec.secretenv_size() == 1);
  CHECK(exec.secretenv(0).name() == "TOKEN");
  CHECK(exec.secretenv(0).optional());
  CHECK(exec.mounts(6).sshopt().optional());
  CHECK(exec.mounts(6).sshopt().mode() == 0600);
  CHECK(exec.meta().env(exec.meta().env_size() - 1) == "SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0");
}

TEST_CASE("arguments: defaults, build arguments, global scope and the history prefix") {
  dockerfile_build b;
  b.request.options["build-arg:VERSION"] = "9";
  b.build(
      "ARG BASE=busybox\nARG VERSION=1\nFROM ${BASE}\nARG VERSION\nARG OTHER=${VERSION}-x\n"
      "RUN echo $VERSION\n");
  const auto exec = b.op_named("[2/2] RUN echo 9").op.exec();
  std::vector<std::string> env(exec.meta().env().begin(), exec.meta().env().end());
  CHECK(env == std::vector<std::string>{"PATH=/bin", "VERSION=9", "OTHER=9-x"});
  CHECK(b.config()["history"].back()["created_by"] ==
        "RUN |2 VERSION=9 OTHER=9-x /bin/sh -c echo $VERSION # buildkit");
  CHECK(b.config()["config"]["Env"].size() == 1);
}

TEST_CASE("proxy arguments reach commands but not their environment or history") {
  dockerfile_build b;
  b.request.options["build-arg:http_proxy"] = "http://proxy";
  b.build("FROM busybox\nRUN x\n");
  const auto exec = b.op_named("[2/2] RUN x").op.exec();
  CHECK(exec.meta().proxy_env().http_proxy() == "http://proxy");
  CHECK(exec.meta().env_size() == 1);
  CHECK(b.config()["history"].back()["created_by"] == "RUN /bin/sh -c x # buildkit");
}

TEST_CASE("several platforms give a map of refs, each with its own metadata") {
  dockerfile_build b;
  b.host.add_image("docker.io/library/busybox:latest|linux/arm64", image_json("{}", "arm64"));
  b.request.options["platform"] = "linux/amd64,linux/arm64";
  b.build(
      "FROM --platform=$BUILDPLATFORM busybox AS build\nARG TARGETARCH\nRUN cc $TARGETARCH\n"
      "FROM busybox\nCOPY --from=build /x /x\n");
  REQUIRE(b.result.has_refs());
  CHECK(b.result.refs().refs().contains("linux/amd64"));
  CHECK(b.result.refs().refs().contains("linux/arm64"));
  CHECK(b.result.metadata().at("refs.platforms") ==
        R"({"Platforms":[{"ID":"linux/amd64","Platform":{"architecture":"amd64","os":"linux"}},)"
        R"({"ID":"linux/arm64","Platform":{"architecture":"arm64","os":"linux"}}]})");
  CHECK(b.config("/linux/arm64")["architecture"] == "arm64");
  bool cross = false;
  for (const auto& solve : b.host.solves)
    for (const auto& view : operations(solve.definition()))
      cross |= view.name() == "[linux/amd64->arm64 build 2/2] RUN cc arm64" &&
               view.op.platform().architecture() == "amd64";
  CHECK(cross);
}

TEST_CASE("heredocs: shell text, a script of its own, and files to copy") {
  dockerfile_build b;
  b.build(
      "FROM busybox\nRUN <<EOF\necho a\necho b\nEOF\nRUN <<-SCRIPT\n\t#!/bin/sh\n\techo c\n\tSCRIPT\n"
      "ENV NAME=kiln\nCOPY <<one <<\"two\" /etc/\nhello $NAME\none\nraw $NAME\ntwo\n");
  auto shell = b.op_named("[2/4] RUN <<EOF (echo a...)");
  CHECK(shell.op.exec().meta().args(2) == "echo a\necho b\n");
  auto script = b.op_named("[3/4] RUN <<-SCRIPT (#!/bin/sh...)");
  CHECK(script.op.exec().meta().args(2) == "/dev/pipes/SCRIPT");
  REQUIRE(script.op.exec().mounts_size() == 2);
  CHECK(script.op.exec().mounts(1).dest() == "/dev/pipes/");
  CHECK(script.op.exec().mounts(1).readonly());
  std::vector<std::string> contents;
  for (const auto& view : b.ops())
    if (view.op.file().actions_size() > 0 && view.op.file().actions(0).has_mkfile())
      contents.push_back(view.op.file().actions(0).mkfile().data());
  CHECK(std::find(contents.begin(), contents.end(), "hello kiln\n") != contents.end());
  CHECK(std::find(contents.begin(), contents.end(), "raw $NAME\n") != contents.end());
}

TEST_CASE("triggers of a base image and of a base stage run first") {
  dockerfile_build b;
  b.host.add_image("docker.io/library/trigger:latest", image_json(R"({"OnBuild":["COPY a /a"]})"));
  b.build("FROM trigger AS one\nONBUILD RUN later\nFROM one\nRUN last\n");
  auto names = b.names();
  CHECK(std::find(names.begin(), names.end(), "[one 2/2] ONBUILD COPY a /a") != names.end());
  CHECK(std::find(names.begin(), names.end(), "[stage-1 1/2] ONBUILD RUN later") != names.end());
  CHECK(std::find(names.begin(), names.end(), "[stage-1 2/2] RUN last") != names.end());
  CHECK_FALSE(b.config()["config"].contains("OnBuild"));
}

TEST_CASE("a base image with more triggers than are taken is refused, by the bound's number") {
  dockerfile_build b;
  std::string list;
  for (int i = 0; i < 1001; ++i) list += std::string(i > 0 ? "," : "") + "\"RUN true\"";
  b.host.add_image("docker.io/library/triggers:latest", image_json("{\"OnBuild\":[" + list + "]}"));
  CHECK(b.failure("FROM triggers\n").message ==
        "the base image has 1001 ONBUILD instructions, and no more than 1000 are taken");
}

TEST_CASE("an image config larger than anybody reads is refused before a step runs") {
  dockerfile_build b;
  std::string text = "FROM scratch\n";
  for (int i = 0; i < 9; ++i) text += "LABEL l" + std::to_string(i) + "=" + std::string(1 << 20, 'x') + "\n";
  auto e = b.failure(text);
  CHECK(e.message.starts_with("the image's config would have "));
  CHECK(e.message.ends_with(" bytes, and nobody reads more than 8388608 of one"));
}

TEST_CASE("errors carry the place in the file for clients to print") {
  dockerfile_build b;
  auto e = b.failure("FROM busybox\n\nRUM echo\n");
  CHECK(e.message == "dockerfile parse error on line 3: unknown instruction: RUM (did you mean RUN?)");
  REQUIRE(e.details.size() == 1);
  CHECK(e.details[0].type_url == "github.com/moby/buildkit/errdefs.Source+json");
  auto source = nlohmann::json::parse(e.details[0].value);
  CHECK(source["info"]["filename"] == "Dockerfile");
  CHECK(source["ranges"][0]["start"]["line"] == 3);
}

TEST_CASE("an unknown target names the nearest one") {
  dockerfile_build b;
  b.request.options["target"] = "biuld";
  CHECK(b.failure("FROM busybox AS build\n").message ==
        "target stage \"biuld\" could not be found (did you mean build?)");
}

TEST_CASE("stages that need each other are refused with every step") {
  dockerfile_build b;
  auto e =
      b.failure("FROM busybox AS one\nCOPY --from=two /a /a\nFROM busybox AS two\nCOPY --from=one /b /b\n");
  CHECK(e.message == "circular dependency detected on stage: one");
  CHECK(e.details.size() == 2);
}

TEST_CASE("very many stages in a row are followed to the last one") {
  constexpr int count = 4'096;  // as many as there may be
  std::string needing, based = "FROM scratch AS s0\nARG A\n";
  for (int i = 0; i < count; ++i) {
    auto name = "s" + std::to_string(i), next = "s" + std::to_string((i + 1) % count);
    needing += "FROM scratch AS " + name + "\nCOPY --from=" + next + " /f /f\n";
    if (i > 0) based += "FROM s" + std::to_string(i - 1) + " AS " + name + "\n";
  }
  dockerfile_build circle;
  auto e = circle.failure(needing);
  CHECK(e.message == "circular dependency detected on stage: s0");
  CHECK(e.details.size() == count);
  dockerfile_build asked;
  asked.request.options["requestid"] = "frontend.outline";
  asked.build(based);
  CHECK(asked.result.metadata().at("result.json").find("\"A\"") != std::string::npos);
}

TEST_CASE("the lower-case file name is tried when the default one is missing") {
  dockerfile_build b;
  b.host.locals["dockerfile"]["dockerfile"] = "FROM scratch\nCOPY a /a\n";
  auto built = frontends::make_dockerfile_frontend()->solve(b.host, b.request);
  CHECK(built.ok());
}

TEST_CASE("a syntax line hands the build on to the frontend it names, once") {
  dockerfile_build b;
  b.host.forwarded.mutable_result()->mutable_ref()->set_id("theirs");
  b.build("# syntax=docker/dockerfile:1.7-labs\nFROM scratch\nCOPY a /a\n");
  CHECK(b.host.solves.back().frontend() == "gateway.v0");
  CHECK(b.host.solves.back().frontendopt().at("source") == "docker/dockerfile:1.7-labs");
  b.request.options["cmdline"] = "docker/dockerfile:1.7-labs";
  b.build("# syntax=docker/dockerfile:1.7-labs\nFROM scratch\nCOPY a /a\n");
  CHECK(b.host.solves.back().frontend().empty());
  b.request.options.erase("cmdline");
  b.build("# syntax=example.com/my/frontend:1 --flag\nwhatever\n");
  CHECK(b.host.solves.back().frontend() == "gateway.v0");
  CHECK(b.host.solves.back().frontendopt().at("source") == "example.com/my/frontend:1");
  CHECK(b.host.solves.back().frontendopt().at("cmdline") == "example.com/my/frontend:1 --flag");
  CHECK(b.result.ref().id() == "theirs");
}

TEST_CASE("named contexts replace stages and images") {
  dockerfile_build b;
  b.host.add_image("docker.io/library/alpine:latest", image_json(R"({"Env":["FROM=alpine"]})"));
  b.request.options["context:busybox"] = "docker-image://alpine";
  b.request.options["context:assets"] = "local:assets";
  b.host.locals["assets"][".dockerignore"] = "*.tmp\n";
  b.build("FROM scratch AS assets\nFROM busybox\nCOPY --from=assets /img /img\n");
  auto image = b.op_named("[context busybox] alpine");
  CHECK(image.op.source().identifier() == "docker-image://docker.io/library/alpine:latest");
  auto local = b.op_named("[context assets] load from client");
  CHECK(local.op.source().attrs().at("local.followpaths") == R"(["img"])");
  CHECK(local.op.source().attrs().at("local.excludepatterns") == R"(["*.tmp"])");
  CHECK(b.config()["config"]["Env"][0] == "FROM=alpine");
}

TEST_CASE("an image context that a policy makes something else of is that") {
  dockerfile_build b;
  b.host.replaced["docker.io/library/alpine:latest"] = "local://assets";
  b.request.options["context:assets"] = "docker-image://alpine";
  b.host.locals["assets"][".dockerignore"] = "*.tmp\n";
  b.build("FROM scratch AS assets\nFROM scratch\nCOPY --from=assets /img /img\n");
  auto local = b.op_named("[context assets] load from client");
  CHECK(local.op.source().identifier() == "local://assets");
  CHECK(local.op.source().attrs().at("local.excludepatterns") == R"(["*.tmp"])");
}

TEST_CASE("a Dockerfile with any number of stages or base images neither crashes nor starves the daemon") {
  dockerfile_build b;
  std::string chain = "FROM busybox AS s0\n";
  for (int i = 1; i < 4000; ++i)
    chain += "FROM scratch AS s" + std::to_string(i) + "\nCOPY --from=s" + std::to_string(i - 1) + " /a /a\n";
  b.build(chain);
  CHECK(b.ops().size() == 4000);
  b.host.images["*"] = b.host.images.begin()->second;
  std::string bases = "FROM scratch\n";
  for (int i = 0; i < 500; ++i) bases += "COPY --from=image" + std::to_string(i) + " /a /a\n";
  b.host.resolves.clear();
  b.build(bases);
  CHECK(b.host.resolves.size() == 500);
  std::string many;
  for (int i = 0; i < 5000; ++i) many += "FROM scratch\n";
  CHECK(b.failure(many).message.starts_with("dockerfile is too large"));
}
