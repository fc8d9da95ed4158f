#include <catch2/catch.hpp>

#include "tests/frontends/build_helper.hpp"

using namespace kiln;
using namespace kiln::frontends::test;

namespace {

bool has(const std::vector<std::string>& all, const std::string& text) {
  return std::find(all.begin(), all.end(), text) != all.end();
}

nlohmann::json answer(dockerfile_build& b, const std::string& id, const std::string& text) {
  b.request.options["requestid"] = id;
  b.build(text);
  return nlohmann::json::parse(b.result.metadata().at("result.json"));
}

}  // namespace

TEST_CASE("build checks warn with rule, text and line") {
  dockerfile_build b;
  b.host.locals["context"][".dockerignore"] = "secret.txt\n";
  b.build(
      "FROM --platform=linux/amd64 busybox as Base\nMAINTAINER me\nENV legacy value\nARG API_KEY=1\nWORKDIR "
      "rel\n"
      "ENV x=$UNDEFINED\nCMD a\nCMD b\nEXPOSE 80/TCP 1:2\nCOPY secret.txt /\nfrom scratch\nCOPY --from=base "
      "/ /\n");
  auto w = b.warnings();
  for (const auto* text :
       {"StageNameCasing: Stage name 'Base' should be lowercase (line 1)",
        "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)",
        "FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/amd64\" "
        "(line 1)",
        "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)",
        "LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format "
        "(line 3)",
        "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"API_KEY\") "
        "(line 4)",
        "WorkdirRelativePath: Relative workdir \"rel\" can have unexpected results if the base image changes "
        "(line 5)",
        "UndefinedVar: Usage of undefined variable '$UNDEFINED' (line 6)",
        "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to "
        "OS signals "
        "(line 7)",
        "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage "
        "because only "
        "the last one will be used (line 7)",
        "ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase (line 9)",
        "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found "
        "'1:2' "
        "(line 9)",
        "CopyIgnoredFile: Attempting to Copy file \"secret.txt\" that is excluded by .dockerignore (line 10)",
        "ConsistentInstructionCasing: Command 'from' should match the case of the command majority "
        "(uppercase) "
        "(line 11)"}) {
    INFO(text);
    CHECK(has(w, text));
  }
  CHECK(b.host.warnings[0].level() == 1);
  CHECK(b.host.warnings[0].info().filename() == "Dockerfile");
  CHECK(b.host.warnings[0].digest() == operations(b.host.solves[0].definition())[0].digest);
}

TEST_CASE("checks can be skipped, switched on, and made errors") {
  dockerfile_build b;
  b.build("# check=skip=StageNameCasing\nFROM busybox AS Base\n");
  CHECK(b.warnings().empty());
  auto e = b.failure("# check=error=true\nFROM busybox AS Base\n");
  CHECK(e.message == "lint violation found for rules: StageNameCasing");
  b.host.warnings.clear();
  b.request.options["build-arg:BUILDKIT_DOCKERFILE_CHECK"] =
      "skip=all;experimental=InvalidDefinitionDescription";
  b.build("# bla\nARG X\nFROM busybox AS Base\n");
  CHECK(b.warnings() ==
        std::vector<std::string>{"InvalidDefinitionDescription: Comment for ARG should follow the "
                                 "format: `# X <description>` (line 2)"});
}

TEST_CASE("only the first platform of several warns") {
  dockerfile_build b;
  b.request.options["platform"] = "linux/amd64,linux/arm64";
  b.host.add_image("docker.io/library/busybox:latest|linux/arm64", image_json("{}", "arm64"));
  b.build("FROM busybox AS Base\nRUN x\n");
  CHECK(b.warnings().size() == 1);
}

TEST_CASE("sub-requests describe targets, outline and lint") {
  dockerfile_build b;
  auto text =
      "# base the start\nFROM busybox AS base\n# V what\nARG V=1\nRUN --mount=type=secret,id=s,required x\n"
      "FROM base\nCOPY --from=base /a /b\n";
  auto targets = answer(b, "frontend.targets", text);
  CHECK(targets["targets"][0]["name"] == "base");
  CHECK(targets["targets"][0]["description"] == "the start");
  CHECK(targets["targets"][1]["default"] == true);
  CHECK(b.result.metadata().at("result.txt") == "TARGET    DESCRIPTION\nbase      the start\n(default) \n");
  auto outline = answer(b, "frontend.outline", text);
  CHECK(outline["args"][0]["name"] == "V");
  CHECK(outline["args"][0]["value"] == "1");
  CHECK(outline["args"][0]["description"] == "what");
  CHECK(outline["secrets"][0]["required"] == true);
  auto lint = answer(b, "frontend.lint", "FROM busybox AS Bad\nWRONG\n");
  CHECK(lint["buildError"]["message"] == "dockerfile parse error on line 2: unknown instruction: WRONG");
  CHECK(lint["warnings"][0]["ruleName"] == "StageNameCasing");
  CHECK(b.result.metadata().at("result.statuscode") == "1");
  b.request.options["requestid"] = "frontend.unknown";
  auto e = b.failure("FROM busybox\n");
  CHECK(e.message == "unsupported request frontend.unknown");
  CHECK(e.details[0].type_url == "github.com/moby/buildkit/errdefs.Subrequest+json");
}

TEST_CASE("unknown demands of a client are refused with the capability's name") {
  dockerfile_build b;
  b.request.options["frontend.caps"] = "moby.buildkit.frontend.contexts+forward,nonsense";
  auto e = b.failure("FROM busybox\n");
  CHECK(e.code == errc::unimplemented);
  CHECK(e.message == "unsupported frontend capability nonsense");
}

TEST_CASE("the base image's unknown settings survive") {
  dockerfile_build b;
  b.host.add_image("docker.io/library/busybox:latest",
                   R"({"architecture":"amd64","os":"linux","vendor":{"x":[1]},"config":{"Special":true},)"
                   R"("rootfs":{"type":"layers","diff_ids":["sha256:)" +
                       std::string(64, 'a') + R"("]}})");
  b.build("FROM busybox\nENV a=b\n");
  CHECK(b.config()["vendor"]["x"][0] == 1);
  CHECK(b.config()["config"]["Special"] == true);
}

TEST_CASE("URLs and git repositories are added as sources of their own") {
  dockerfile_build b;
  auto checksum = "sha256:" + std::string(64, 'c');
  b.build(
      "FROM scratch\nADD --checksum=" + checksum +
      " https://example.com/dir/f.tgz /a/\nADD --keep-git-dir=true https://github.com/a/b.git#v1:sub /src\n");
  bool http = false, git = false;
  for (const auto& view : b.ops()) {
    const auto& s = view.op.source();
    if (s.identifier() == "https://example.com/dir/f.tgz")
      http = s.attrs().at("http.filename") == "f.tgz" && s.attrs().at("http.checksum") == checksum;
    if (s.identifier() == "git://github.com/a/b.git#v1:sub")
      git = s.attrs().at("git.keepgitdir") == "true" &&
            s.attrs().at("git.fullurl") == "https://github.com/a/b.git";
  }
  CHECK(http);
  CHECK(git);
  CHECK(b.failure("FROM scratch\nCOPY https://x.com/a /b\n").message == "source can't be a URL for COPY");
}

TEST_CASE("a numeric epoch dates the history and created directories") {
  dockerfile_build b;
  b.request.options["build-arg:SOURCE_DATE_EPOCH"] = "1700000000";
  b.build("FROM busybox\nWORKDIR /w\n");
  CHECK(b.config()["history"].back()["created"] == "2023-11-14T22:13:20Z");
  CHECK(b.op_named("[2/2] WORKDIR /w").op.file().actions(0).mkdir().timestamp() == 1700000000000000000);
  CHECK(b.result.metadata().at("source.date.epoch") == "1700000000");
}

TEST_CASE("text that is not UTF-8 is refused, not sent") {
  dockerfile_build b;
  CHECK(b.failure("FROM busybox\nRUN \xff\n").message ==
        "failed to marshal LLB definition: string field contains invalid UTF-8");
}
