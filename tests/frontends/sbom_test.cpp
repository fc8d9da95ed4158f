// SBOMs: what options ask for, and the scan as LLB, whoever has it made.
#include <catch2/catch.hpp>

#include "frontends/llb/ops.hpp"
#include "frontends/sbom.hpp"
#include "messages/attestation.hpp"
#include "tests/frontends/build_helper.hpp"

using namespace kiln;
using namespace kiln::frontends;
using namespace kiln::frontends::test;

namespace {

const std::string scanner_config =
    R"({"os":"linux","architecture":"amd64","config":{"Env":["A=b"],"Entrypoint":["scan"],"Cmd":["all"],"WorkingDir":"/w"}})";

const pb::Op* exec_named(const std::vector<op_view>& ops, const std::string& name) {
  for (const auto& view : ops)
    if (view.op.has_exec() && view.name() == name) return &view.op;
  return nullptr;
}

const pb::Mount* mount_at(const pb::Op& op, const std::string& path) {
  for (const auto& m : op.exec().mounts())
    if (m.dest() == path) return &m;
  return nullptr;
}

std::set<std::string> environment_of(const pb::Op& op) {
  return {op.exec().meta().env().begin(), op.exec().meta().env().end()};
}

}  // namespace

TEST_CASE("options that ask for attestations are read, quoted values too, and unknown types refused") {
  auto wanted =
      *parse_attestations({{"attest:provenance", "mode=min,version=v0.2"},
                           {"build-arg:BUILDKIT_ATTEST_SBOM", "\"generator=reg/x\",\"ARG=a,b\",flag"},
                           {"target", "x"}});
  CHECK(wanted == attestation_requests{{"provenance", {{"mode", "min"}, {"version", "v0.2"}}},
                                       {"sbom", {{"generator", "reg/x"}, {"ARG", "a,b"}, {"flag", ""}}}});
  CHECK(parse_attestations({{"attest:nothing", ""}}).error().message ==
        "unknown attestation type \"nothing\"");
  CHECK(parse_attestations({{"attest:sbom", "a\"b"}}).error().message.find("failed to parse sbom: ") == 0);
}

TEST_CASE("an SBOM has a generator, by default a well-known one") {
  CHECK_FALSE((*sbom_wanted({{"provenance", {}}})).has_value());
  CHECK((**sbom_wanted({{"sbom", {}}})).generator == "docker.io/docker/buildkit-syft-scanner:stable-1");
  auto own = **sbom_wanted({{"sbom", {{"generator", "reg.example/scan"}, {"ARG", "x"}}}});
  CHECK(own.generator == "reg.example/scan:latest");
  CHECK(own.parameters == std::map<std::string, std::string>{{"ARG", "x"}});
  CHECK_FALSE(sbom_wanted({{"sbom", {{"generator", ""}}}}).ok());
}

TEST_CASE("a scanner runs as its image says, over the result, and leaves its statements in a directory") {
  llb::graph graph;
  platform amd64{"linux", "amd64", "", "", {}};
  auto scanner =
      *make_scanner({"reg.example/scan:1", {{"ARG", "x"}}}, "reg.example/scan:1", scanner_config, amd64);
  scan_target target{"linux/amd64", llb::image(graph, "docker.io/library/app:latest", "", {}), {}, true};
  auto out = *scan(graph, scanner, target);
  auto definition = *llb::marshal(out, {amd64});
  auto ops = operations(definition);
  const auto* op = exec_named(ops, "[linux/amd64] generating sbom using reg.example/scan:1");
  REQUIRE(op);
  const auto& meta = op->exec().meta();
  CHECK(std::vector<std::string>(meta.args().begin(), meta.args().end()) ==
        std::vector<std::string>{"scan", "all"});
  CHECK(meta.cwd() == "/w");
  CHECK(environment_of(*op) == std::set<std::string>{"A=b", "BUILDKIT_SCAN_ARG=x",
                                                     "BUILDKIT_SCAN_DESTINATION=/run/out/",
                                                     "BUILDKIT_SCAN_SOURCE=/run/src/core/sbom"});
  REQUIRE(mount_at(*op, "/run/src/core/sbom"));
  CHECK(mount_at(*op, "/run/src/core/sbom")->readonly());
  CHECK(mount_at(*op, "/tmp")->mounttype() == pb::MountType::TMPFS);
  REQUIRE(mount_at(*op, "/run/out/"));
  // The result is that directory.
  pb::Op last;
  REQUIRE(last.ParseFromString(definition.def(definition.def_size() - 1)));
  CHECK(last.inputs(0).index() == mount_at(*op, "/run/out/")->output());
  for (const auto& view : ops)
    if (view.op.has_exec()) CHECK(view.metadata.ignore_cache());

  auto attestation = scan_attestation("ref1");
  CHECK(attestation.kind() == gw::AttestationKind::Bundle);
  CHECK(attestation.intotopredicatetype() == spdx_predicate);

  CHECK(make_scanner({}, "idle", R"({"os":"linux","architecture":"amd64","config":{}})", amd64)
            .error()
            .message == "scanner idle does not have cmd");
}

TEST_CASE_METHOD(dockerfile_build,
                 "the Dockerfile frontend scans what it builds, with the contexts asked for") {
  host.add_image("reg.example/scan:1", scanner_config);
  request.options["attest:sbom"] = "generator=reg.example/scan:1";
  host.locals["context"]["file"] = "x";
  build("ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nFROM busybox\nCOPY file /\n");
  REQUIRE(result.attestations().size() == 1);
  const auto& [platform, list] = *result.attestations().begin();
  CHECK(list.attestation(0).intotopredicatetype() == spdx_predicate);
  auto ops = operations(host.solves.back().definition());
  const auto* op = exec_named(ops, "[" + platform + "] generating sbom using reg.example/scan:1");
  REQUIRE(op);
  CHECK(mount_at(*op, "/run/src/extras/sbom-context"));
  CHECK(environment_of(*op).contains("BUILDKIT_SCAN_SOURCE_EXTRAS=/run/src/extras"));
}
