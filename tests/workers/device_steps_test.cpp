// Steps with CDI devices, in real containers.
#include <sys/stat.h>

#include "tests/workers/worker_fixture.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

struct device_fixture : worker_fixture {
  temp_dir specs;
  device_fixture() {
    write_file(specs / "dev.yaml", R"(
cdiVersion: 0.7.0
kind: test.dev/thing
devices:
- name: one
  containerEdits:
    env: [THING=one]
    deviceNodes: [{path: /dev/thing, hostPath: /dev/zero}]
    mounts:
    - {hostPath: ")" + (specs / "lib").string() +
                                       R"(", containerPath: /hostlib, options: [ro, nosuid, bind]}
    additionalGids: [1234]
- name: gone
  containerEdits: {deviceNodes: [{path: /dev/no-such-thing}]}
)");
    write_file(specs / "lib/file", "from the host");
    resources->devices =
        std::make_unique<workers::cdi::registry>(workers::cdi::registry_options{{specs.path().string()}, {}});
  }
  static workers::op_request with_device(const std::string& script, const std::string& name,
                                         bool optional = false) {
    auto r = shell(script);
    auto* d = r.op.mutable_exec()->add_cdidevices();
    d->set_name(name);
    d->set_optional(optional);
    return r;
  }
};

}  // namespace

TEST_CASE_METHOD(device_fixture, "a step gets its devices, and nothing of them stays in its output") {
  auto root = busybox();
  auto out = run(with_device("echo $THING; cat /hostlib/file; echo; head -c 4 /dev/thing | wc -c; id; "
                             "touch /hostlib/new || echo read-only; touch /made",
                             "test.dev/thing=one"),
                 {root});
  if (!out.ok()) FAIL(out.error().message << sink.err());
  INFO(sink.out());
  CHECK(sink.out().starts_with("one\nfrom the host\n4\n"));
  CHECK(sink.out().find("1234") != std::string::npos);
  CHECK(sink.out().ends_with("read-only\n"));
  in_ref(out->front(), [](const fs::path& p) {
    CHECK(fs::exists(p / "made"));
    CHECK_FALSE(fs::exists(p / "hostlib"));
    CHECK_FALSE(fs::exists(p / "dev/thing"));
  });
}

TEST_CASE_METHOD(device_fixture, "a step without the device it needs fails, one that can do without runs") {
  auto root = busybox();
  auto missing = run(with_device("true", "test.dev/thing=two"), {root});
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.error().message ==
        "CDI device injection failed: required device \"test.dev/thing=two\" is not registered");
  auto gone = run(with_device("true", "test.dev/thing=gone"), {root});
  REQUIRE_FALSE(gone.ok());
  CHECK(gone.error().message ==
        "CDI device injection failed: failed to inject devices: failed to stat CDI host device "
        "\"/dev/no-such-thing\": no such file or directory");
  CHECK(run(with_device("test -z \"$THING\"", "test.dev/thing=two", true), {root}).ok());
  SECTION("with CDI off there are no devices") {
    resources->devices.reset();
    CHECK_FALSE(run(with_device("true", "test.dev/thing=one"), {root}).ok());
    CHECK(run(with_device("test -z \"$THING\"", "test.dev/thing=one", true), {root}).ok());
  }
}
