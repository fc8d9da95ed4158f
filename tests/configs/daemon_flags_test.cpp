#include "configs/daemon_flags.hpp"

#include <catch2/catch.hpp>

#include <cstdio>
#include <cstdlib>
#include <fstream>

using namespace kiln;
using namespace kiln::configs;

namespace {

result<command_line> parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "kilnd");
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

}  // namespace

TEST_CASE("flags override the config file, which overrides the defaults") {
  std::string file = "/tmp/kiln-flags-test.toml";
  std::ofstream(file)
      << "root = \"/from/file\"\n[worker.oci]\nmax-parallelism = 2\nsnapshotter = \"native\"\n";
  auto line = parse({"--config", file.c_str(), "--root", "/from/flag", "--addr", "unix:///a.sock", "--addr",
                     "tcp://127.0.0.1:1", "--oci-worker-labels", "a=b", "--oci-worker-gc=false", "--debug"});
  std::remove(file.c_str());
  REQUIRE(line.ok());
  CHECK(line->config.root == "/from/flag");
  CHECK(line->config.oci.max_parallelism == 2);
  CHECK(line->config.oci.snapshotter == "native");
  CHECK(line->config.addresses == std::vector<std::string>{"unix:///a.sock", "tcp://127.0.0.1:1"});
  CHECK(line->config.oci.labels.at("a") == "b");
  CHECK_FALSE(line->config.oci.gc);
  CHECK(line->config.log_level == "debug");
}

TEST_CASE("devices may be asked for unless CDI is off") {
  auto line = parse({"--config", "/nonexistent", "--cdi-spec-dir", "/a", "--cdi-spec-dir", "/b"});
  REQUIRE(line.ok());
  CHECK(line->config.cdi_spec_dirs == std::vector<std::string>{"/a", "/b"});
  CHECK(line->config.insecure_entitlements == std::vector<std::string>{"device"});
  auto off = parse({"--config", "/nonexistent", "--cdi-disabled"});
  REQUIRE(off.ok());
  CHECK(off->config.cdi_disabled);
  CHECK(off->config.insecure_entitlements.empty());
  CHECK(off->config.cdi_spec_dirs.size() == 3);
}

TEST_CASE("keep storage is given in megabytes") {
  auto line = parse({"--config", "/nonexistent", "--oci-worker-gc-keepstorage", "100,200,300"});
  REQUIRE(line.ok());
  CHECK(line->config.oci.reserved_space == "100000000");
  CHECK(line->config.oci.min_free_space == "200000000");
  CHECK(line->config.oci.max_used_space == "300000000");
  CHECK_FALSE(parse({"--config", "/nonexistent", "--oci-worker-gc-keepstorage", "1,2,3,4"}).ok());
}

TEST_CASE("the last of a flag for one value counts, and a level is less than one that is named") {
  auto line =
      parse({"--config", "/nonexistent", "--root", "/a", "--root", "/b", "--debug", "--log-level", "warn"});
  REQUIRE(line.ok());
  CHECK(line->config.root == "/b");
  CHECK(line->config.log_level == "warn");
  CHECK(parse({"--config", "/nonexistent", "--trace"})->config.log_level == "trace");
}

TEST_CASE("flags for what Kiln lacks are refused by name, or said to be without effect") {
  auto line = parse({"--config", "/nonexistent", "--containerd-worker=false", "--save-cache-debug",
                     "--containerd-worker-gc=false", "--otel-socket-path=/s"});
  REQUIRE(line.ok());
  REQUIRE(line->without_effect.size() == 2);
  CHECK(line->without_effect[0].find("--save-cache-debug: ") == 0);
  CHECK(line->without_effect[1].find("--otel-socket-path: ") == 0);
  for (auto flag : {"--containerd-worker=true", "--oci-worker-selinux"}) {
    auto refused = parse({"--config", "/nonexistent", flag});
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.error().message.find(std::string(flag).substr(0, std::string(flag).find('='))) == 0);
  }
}

TEST_CASE("a proxy network for all builds is wanted by flag") {
  CHECK_FALSE(parse({"--config", "/nonexistent"})->config.proxy_network);
  CHECK(parse({"--config", "/nonexistent", "--proxy-network"})->config.proxy_network);
  CHECK_FALSE(parse({"--config", "/nonexistent", "--proxy-network=false"})->config.proxy_network);
}

TEST_CASE("bad flags are refused by name") {
  for (auto flag : {"--no-such-flag", "--oci-worker=false", "--oci-max-parallelism=-1", "--service-name=x",
                    "--allow-insecure-entitlement=everything", "--addr=/run/x.sock",
                    "--oci-worker-net=token-ring", "--log-level=loud"}) {
    auto line = parse({"--config", "/nonexistent", flag});
    REQUIRE_FALSE(line.ok());
    CHECK(line.error().code == errc::invalid_argument);
  }
  CHECK(parse({"--help"})->print_and_exit);
  CHECK(parse({"--version"})->print_and_exit);
}

TEST_CASE("who says something in an outdated way is told the other one") {
  std::string file = "/tmp/kiln-outdated-test.toml";
  std::ofstream(file) << "debug = true\n";
  auto line = parse({"--config", file.c_str(), "--trace"});
  std::remove(file.c_str());
  REQUIRE(line.ok());
  CHECK(line->config.log_level == "trace");
  CHECK(line->outdated ==
        std::vector<std::string>{"debug (line 1): say log.level = \"debug\" instead",
                                 "--trace: say log.level = \"trace\" or --log-level=trace instead"});
  CHECK(parse({"--config", "/nonexistent", "--debug"})->outdated.empty());
}

TEST_CASE("profilers of Go programs are refused by name, and variables that nobody reads are told") {
  for (auto flag : {"--profile-cpu=/p", "--profile-memory=/p", "--profile-memoryrate=1", "--profile-block=/p",
                    "--profile-mutex=/p", "--profile-trace=/p"}) {
    auto refused = parse({"--config", "/nonexistent", flag});
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.error().message.find(std::string(flag).substr(0, std::string(flag).find('=')) + ": ") == 0);
  }
  ::setenv("BUILDKIT_SCHEDULER_DEBUG", "1", 1);
  auto line = parse({"--config", "/nonexistent"});
  ::unsetenv("BUILDKIT_SCHEDULER_DEBUG");
  REQUIRE(line.ok());
  REQUIRE(line->without_effect.size() == 1);
  CHECK(line->without_effect[0].find("BUILDKIT_SCHEDULER_DEBUG: ") == 0);
}

TEST_CASE("the version is told in BuildKit's fields: name, package, version, revision") {
  auto line = parse({"--version"});
  REQUIRE(line.ok());
  REQUIRE(line->print_and_exit);
  CHECK(line->print_and_exit->find("kilnd github.com/moby/buildkit v0.") == 0);
  CHECK(line->print_and_exit->find(" kiln-") != std::string::npos);
}
