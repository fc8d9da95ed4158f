#include <catch2/catch.hpp>

#include <fstream>

#include "configs/certificates.hpp"
#include "configs/daemon_config.hpp"
#include "configs/node_names.hpp"
#include "messages/cluster_text.hpp"
#include "../support/temp_dir.hpp"

using namespace kiln;
using namespace kiln::configs;

namespace {

constexpr const char* minimal = R"([cluster]
listen = "10.0.0.1:7000"
ca = "ca.pem"
cert = "a.pem"
key = "a.key"
)";

/// What is wrong with the minimal cluster plus these lines; empty when nothing is.
std::string fault(const std::string& more, std::string text = minimal) {
  auto loaded = parse_config(text + more, "kilnd.toml");
  if (!loaded.ok()) return loaded.error().message;
  auto valid = validate(loaded->config);
  return valid.ok() ? "" : valid.error().message;
}

}  // namespace

TEST_CASE("the cluster is off unless it listens, and has its defaults") {
  auto loaded = parse_config("", "kilnd.toml");
  REQUIRE(loaded.ok());
  CHECK_FALSE(loaded->config.cluster.on());
  CHECK(fault("") == "");
  loaded = parse_config(std::string(minimal) +
                            "seeds = [\"b:7000\", \"kiln.svc:7000\"]\nbeatInterval = \"100ms\"\n"
                            "deadAfter = \"1s\"\nrole = \"worker\"\nslots = 3\n",
                        "kilnd.toml");
  REQUIRE(loaded.ok());
  const auto& c = loaded->config.cluster;
  CHECK(c.on());
  CHECK(c.seeds == std::vector<std::string>{"b:7000", "kiln.svc:7000"});
  CHECK(c.heartbeat_interval_ns == 100'000'000);
  CHECK(c.dead_after_ns == 1'000'000'000);
  CHECK(c.peer_answer_time_ns == 250'000'000);
  CHECK(c.role == "worker");
  CHECK(c.slots == 3);
  CHECK(loaded->unknown_keys.empty());
}

TEST_CASE("what cannot be a cluster is refused with the reason") {
  CHECK(fault("name = \"a b\"\n").find("name \"a b\"") != std::string::npos);
  CHECK(fault("role = \"boss\"\n") ==
        "kilnd.toml:6: cluster.role must be both, coordinator or worker, not \"boss\"");
  CHECK(fault("seeds = [\"b\"]\n") == "cluster seed \"b\": expected host:port");
  CHECK(fault("dataPort = 7000\n").find("data port 7000") != std::string::npos);
  CHECK(fault("deadAfter = \"600ms\"\n").find("beat intervals") != std::string::npos);
  CHECK(fault("beatInterval = \"1ms\"\n") ==
        "kilnd.toml:6: cluster.beatInterval must be a duration of 10ms to 1m0s");
  CHECK(fault("slots = 4097\n") == "kilnd.toml:6: cluster.slots must be a number from 0 to 4096");
  CHECK(fault("", "[cluster]\nlisten = \"0.0.0.0:7000\"\n").find("every address") != std::string::npos);
  CHECK(fault("", "[cluster]\nlisten = \"somewhere\"\n").find("expected host:port") != std::string::npos);
  CHECK(fault("", "[cluster]\nlisten = \"a:7000\"\n") ==
        "cluster ca is missing: nodes know each other by certificates");
  CHECK(fault("", "[cluster]\nseeds = [\"a:1\"]\n").find("no listen address") != std::string::npos);
}

TEST_CASE("addresses of nodes are host and port") {
  CHECK(parse_host_port("a.b:7000") == host_port{"a.b", 7000});
  CHECK(parse_host_port("[::1]:7000") == host_port{"::1", 7000});
  for (auto bad : {"", "a", ":1", "a:", "a:0", "a:65536", "a b:1", "::1:7000", "a:1x", "[]:1"})
    CHECK_FALSE(parse_host_port(bad));
  CHECK(join_host_port("::1", 5) == "[::1]:5");
  CHECK(is_node_name("node-1.rack_2"));
  for (auto bad : {"", "a!b", "a/b", "\n"}) CHECK_FALSE(is_node_name(bad));
}

TEST_CASE("certificates are checked before they are used") {
  test::temp_dir dir;
  auto path = [&](const std::string& name) { return (dir.path() / name).string(); };
  auto write = [&](const std::string& name, const std::string& text) { std::ofstream(path(name)) << text; };
  auto now = std::time(nullptr);
  auto ca = *make_authority("ca", now - 60, std::chrono::hours{1});
  auto other = *make_authority("other", now - 60, std::chrono::hours{1});
  auto good = *make_certificate(ca, "a", {"10.0.0.1", "a.example"}, now - 60, std::chrono::hours{1});
  auto expired = *make_certificate(ca, "a", {}, now, -std::chrono::hours{1});
  auto stranger = *make_certificate(other, "a", {}, now - 60, std::chrono::hours{1});
  write("ca", ca.cert);
  write("good", good.cert);
  write("key", good.key);
  write("expired", expired.cert);
  write("expired.key", expired.key);
  write("stranger", stranger.cert);
  write("stranger.key", stranger.key);
  write("garbage", "not PEM");
  auto fault = [&](const char* ca, const char* cert, const char* key, std::time_t at) {
    auto loaded = load_certificates({path(ca), path(cert), path(key)}, at);
    return loaded.ok() ? "" : loaded.error().message;
  };
  CHECK(fault("ca", "good", "key", now) == "");
  CHECK(fault("missing", "good", "key", now) == "cluster ca: cannot read " + path("missing"));
  CHECK(fault("garbage", "good", "key", now) == "cluster ca: " + path("garbage") + " has no PEM certificate");
  CHECK(fault("ca", "good", "expired.key", now) ==
        "cluster key: " + path("expired.key") + " is not the key of " + path("good"));
  CHECK(fault("ca", "expired", "expired.key", now).find("expired on ") != std::string::npos);
  CHECK(fault("ca", "good", "key", now + 7200).find("expired on ") != std::string::npos);
  CHECK(fault("ca", "good", "key", now - 7200).find("is not valid before ") != std::string::npos);
  CHECK(fault("ca", "stranger", "stranger.key", now) ==
        "cluster certificate: " + path("stranger") + " is not signed by the CA in " + path("ca"));
}

TEST_CASE("a node is called as one of the DNS names of its certificate, letter by letter") {
  using configs::misnamed;
  CHECK(misnamed({"node1", "node1.example"}, "node1").empty());
  CHECK(misnamed({"node1"}, "Node1") == "is for node1, not for node Node1");
  CHECK(misnamed({"*", "*.example"}, "x.example") == "is for *, *.example, not for node x.example");
  CHECK(misnamed({}, "node1").find("make one for node node1 with \"kilnctl cluster certs\"") !=
        std::string::npos);
}
