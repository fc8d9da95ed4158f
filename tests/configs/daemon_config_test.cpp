#include "configs/daemon_config.hpp"

#include <catch2/catch.hpp>

#include "configs/units.hpp"

using namespace kiln;
using namespace kiln::configs;

TEST_CASE("disk sizes are bytes, binary units or a share of the disk") {
  CHECK(*parse_disk_space("1000", 0) == 1000);
  CHECK(*parse_disk_space("512MB", 0) == 512LL << 20);
  CHECK(*parse_disk_space("1.5g", 0) == 3LL << 29);
  CHECK(*parse_disk_space("10%", 100LL << 30) == 11'000'000'000);
  CHECK(*parse_disk_space("10%", 0) == 2'000'000'000);
  for (auto bad : {"", "MB", "10x", "110%", "-1"}) CHECK_FALSE(parse_disk_space(bad, 1).ok());
}

TEST_CASE("a full config file is read, and unknown keys are reported with their line") {
  auto loaded = parse_config(R"(
root = "/tmp/state"
insecure-entitlements = ["network.host"]
[log]
level = "debug"
[grpc]
address = ["unix:///tmp/a.sock", "tcp://127.0.0.1:1234"]
[grpc.tls]
cert = "c"
key = "k"
[worker.oci]
enabled = true
snapshoter = "native"
max-parallelism = 4
[worker.oci.labels]
color = "red"
[[worker.oci.gcpolicy]]
keepBytes = 1000
keepDuration = 60
filters = ["type==source.local"]
[[worker.oci.gcpolicy]]
all = true
maxUsedSpace = "1GB"
[registry."docker.io"]
mirrors = ["mirror.local:5000/proxy"]
http = true
[[registry."docker.io".keypair]]
key = "a.key"
cert = "a.cert"
[history]
maxAge = "1h"
maxEntries = 3
[frontend."gateway.v0"]
enabled = false
[cdi]
specDirs = ["/specs"]
autoAllowed = ["vendor.com/gpu", "vendor.com/nic=1"]
)",
                             "kiln.toml");
  REQUIRE(loaded.ok());
  auto& c = loaded->config;
  CHECK(c.root == "/tmp/state");
  CHECK(c.log_level == "debug");
  CHECK(c.addresses.size() == 2);
  CHECK(c.oci.enabled == "true");
  CHECK(c.oci.max_parallelism == 4);
  CHECK(c.oci.labels.at("color") == "red");
  CHECK(c.registries.at("docker.io").mirrors.front() == "mirror.local:5000/proxy");
  CHECK(c.registries.at("docker.io").http == true);
  CHECK(c.registries.at("docker.io").key_pairs.front().cert == "a.cert");
  CHECK(c.history.max_age_ns == 3'600'000'000'000);
  CHECK_FALSE(c.frontends.gateway_enabled);
  CHECK_FALSE(c.cdi_disabled);
  CHECK(c.cdi_spec_dirs == std::vector<std::string>{"/specs"});
  CHECK(c.cdi_auto_allowed == std::vector<std::string>{"vendor.com/gpu", "vendor.com/nic=1"});
  CHECK(loaded->unknown_keys == std::vector<std::string>{"worker.oci.snapshoter (line 13)"});
  auto rules = gc_rules(c.oci, 1LL << 40);
  REQUIRE(rules.ok());
  REQUIRE(rules->size() == 2);
  CHECK((*rules)[0].reserved_space == 1000);
  CHECK((*rules)[0].keep_duration_ns == 60'000'000'000);
  CHECK((*rules)[1].max_used_space == 1LL << 30);
}

TEST_CASE("a configuration that no process can hold, or that is no file, is refused") {
  std::string deep = "a";
  for (int i = 0; i < 60'000; ++i) deep += ".a";
  auto refused = parse_config("x = 1\n" + deep + " = 1\n", "kilnd.toml");
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().message == "kilnd.toml:2: more than 256 dots in a line");
  CHECK_FALSE(load_config("/").ok());
  CHECK_FALSE(load_config("/dev/zero").ok());
  for (auto text : {"[grpc]\ngid = 99999999999", "[grpc]\nuid = -5", "[grpc]\nuid = 4294967295"}) {
    auto loaded = parse_config(text, "kilnd.toml");
    REQUIRE_FALSE(loaded.ok());
    CHECK(loaded.error().message.find("id must be a number from 0 to 4294967294") != std::string::npos);
  }
}

TEST_CASE("mistakes name file, line and key") {
  auto e = parse_config("[history]\nmaxEntries = \"many\"\n", "kiln.toml");
  REQUIRE_FALSE(e.ok());
  CHECK(e.error().message == "kiln.toml:2: history.maxEntries must be a number from 0 to 1000000000");
  e = parse_config("root = [", "kiln.toml");
  REQUIRE_FALSE(e.ok());
  CHECK(e.error().message.rfind("kiln.toml:1: ", 0) == 0);
}

TEST_CASE("settings that make no sense are refused") {
  daemon_config c;
  CHECK(validate(c).ok());
  c.addresses = {"/run/x.sock"};
  CHECK(validate(c).error().message.find("unix:///run/x.sock") != std::string::npos);
  c = {};
  c.tls.cert = "x";
  CHECK_FALSE(validate(c).ok());
  c = {};
  c.oci.enabled = "false";
  CHECK_FALSE(validate(c).ok());
}

TEST_CASE("a value out of its range is refused with file, line and key") {
  auto fault = [](const std::string& text) {
    auto loaded = parse_config(text, "k.toml");
    return loaded.ok() ? "" : loaded.error().message;
  };
  CHECK(fault("insecure-entitlements = [\"device\", \"all\"]") ==
        "k.toml:1: insecure-entitlements must be network.host, security.insecure or device, not \"all\"");
  CHECK(fault("[log]\nlevel = \"loud\"").find("k.toml:2: log.level must be panic, fatal, error") == 0);
  CHECK(fault("[system]\nmaxRegistryConcurrency = 0") ==
        "k.toml:2: system.maxRegistryConcurrency must be a number from 1 to 1024");
  CHECK(fault("[worker.oci]\nenabled = 1") ==
        "k.toml:2: worker.oci.enabled must be true, false or auto, not \"\"");
  CHECK(fault("[worker.oci]\nreservedSpace = \"much\"")
            .find("k.toml:2: worker.oci.reservedSpace must be a size") == 0);
  CHECK(
      fault("[[worker.oci.gcpolicy]]\nkeepDuration = -1").find("gcpolicy.keepDuration must be a duration") !=
      std::string::npos);
}

TEST_CASE("signatures of caches at GitHub are configured by either name of the table") {
  auto loaded = parse_config(
      "[cache.gha.sign]\ncommand = [\"sign\", \"x\"]\ncmd = \"ignored\"\n[cache.gha.verify]\n"
      "required = true\n[cache.gha.verify.policy]\ntlogThreshold = 1\nissuer = \"https://i\"\n",
      "k.toml");
  REQUIRE(loaded.ok());
  const auto& c = loaded->config.gha_cache;
  CHECK(c.sign_command == std::vector<std::string>{"sign", "x"});
  CHECK(c.verify);
  CHECK(c.log_times_min == 1);
  CHECK(c.certificate == std::map<std::string, std::string>{{"issuer", "https://i"}});
  loaded = parse_config("[ghacache.sign]\ncmd = \"sign x\"\n", "k.toml");
  REQUIRE(loaded.ok());
  CHECK(loaded->config.gha_cache.sign_command == std::vector<std::string>{"/bin/sh", "-c", "sign x"});
  CHECK(loaded->unknown_keys.empty());
}

TEST_CASE("what Kiln lacks is refused or without effect, never ignored") {
  auto loaded = parse_config(R"(
debug = false
[otel]
socketPath = "/run/otel.sock"
[worker.oci]
selinux = false
[worker.containerd]
enabled = false
namespace = "x"
[cache]
)",
                             "k.toml");
  REQUIRE(loaded.ok());
  CHECK(loaded->without_effect ==
        std::vector<std::string>{
            "otel.socketPath (line 4): socket for traces out of builds: Kiln opens none",
            "worker.containerd.namespace (line 9): of the containerd worker, which Kiln has not"});
  for (auto text : {"worker.oci.selinux = true", "worker.containerd.enabled = true",
                    "worker.oci.proxySnapshotterPath = \"/s\""}) {
    auto refused = parse_config(text, "k.toml");
    INFO(text);
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.error().message.find("k.toml:1: ") == 0);
    CHECK(refused.error().message.find("Kiln") != std::string::npos);
  }
}

TEST_CASE("without settings the default GC policy has four rules sized by the disk") {
  auto rules = gc_rules(worker_config{}, 1LL << 40);
  REQUIRE(rules.ok());
  REQUIRE(rules->size() == 4);
  CHECK((*rules)[0].max_used_space == 512'000'000);
  CHECK((*rules)[1].reserved_space == 10'000'000'000);
  CHECK((*rules)[1].max_used_space == 100'000'000'000);
  CHECK((*rules)[3].all);
  worker_config off;
  off.gc = false;
  CHECK(gc_rules(off, 1)->empty());
}
