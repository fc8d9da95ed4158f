#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>

#include "distribution/hosts.hpp"
#include "distribution/transport.hpp"

using namespace kiln;
using distribution::hosts;

TEST_CASE("an unlisted registry is reached by https, a local one by http") {
  hosts h;
  auto hub = h.endpoints("docker.io", false).value();
  REQUIRE(hub.size() == 1);
  CHECK(hub[0].scheme == "https");
  CHECK(hub[0].host == "registry-1.docker.io");
  CHECK(hub[0].path == "/v2");
  for (const char* local : {"localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"})
    CHECK(h.endpoints(local, false).value()[0].scheme == "http");
  for (const char* remote : {"example.com", "10.0.0.1:5000", "127.example.com", "localhost.example.com"})
    CHECK(h.endpoints(remote, false).value()[0].scheme == "https");
}

TEST_CASE("mirrors come first for pulling, with their own settings, and never for pushing") {
  configs::registry_config hub;
  hub.mirrors = {"https://mirror.example/prefix/", "localhost:5001"};
  configs::registry_config mirror;
  mirror.http = true;
  hosts h({{"docker.io", hub}, {"mirror.example", mirror}});
  auto pull = h.endpoints("docker.io", false).value();
  REQUIRE(pull.size() == 3);
  CHECK(pull[0].host == "mirror.example");
  CHECK(pull[0].path == "/v2/prefix");
  CHECK(pull[0].scheme == "http");
  CHECK(pull[0].mirror);
  CHECK_FALSE(pull[0].push);
  CHECK(pull[1].host == "localhost:5001");
  CHECK(pull[1].scheme == "http");
  CHECK(pull[2].host == "registry-1.docker.io");
  CHECK(pull[2].scheme == "https");
  auto push = h.endpoints("docker.io", true).value();
  REQUIRE(push.size() == 1);
  CHECK(push[0].push);
}

TEST_CASE("insecure registries are tried by https without verification, falling back when http is allowed") {
  configs::registry_config insecure, both, plain;
  insecure.insecure = true;
  both.insecure = both.http = true;
  plain.http = true;
  hosts h({{"i.example", insecure}, {"b.example", both}, {"p.example", plain}});
  auto at = [&](const char* host) { return h.endpoints(host, false).value()[0]; };
  CHECK(at("i.example").scheme == "https");
  CHECK_FALSE(at("i.example").tls->verify);
  CHECK_FALSE(at("i.example").http_fallback);
  CHECK(at("b.example").scheme == "https");
  CHECK(at("b.example").http_fallback);
  CHECK(at("p.example").scheme == "http");
  auto exporter = h.endpoints("p.example", true, true).value()[0];
  CHECK(exporter.http_fallback);
  CHECK_FALSE(exporter.tls->verify);
}

TEST_CASE("certificates come from files and directories, and a missing one is named") {
  char dir[] = "/tmp/kiln_hosts_XXXXXX";
  REQUIRE(mkdtemp(dir) != nullptr);
  std::string d(dir);
  std::ofstream(d + "/a.crt") << "CA-A";
  std::ofstream(d + "/client.cert") << "CERT";
  std::ofstream(d + "/client.key") << "KEY";
  configs::registry_config c;
  c.tls_config_dirs = {d, d + "/does-not-exist"};
  hosts h({{"r.example", c}});
  auto tls = h.endpoints("r.example", false).value()[0].tls;
  CHECK(tls->ca_bundle.ends_with("CA-A\n"));
  REQUIRE(tls->certificates.size() == 1);
  CHECK(tls->certificates[0].cert_file == d + "/client.cert");
  CHECK(tls->certificates[0].key_file == d + "/client.key");
  std::filesystem::remove_all(d);
  c.ca = {d + "/gone.pem"};
  hosts broken({{"r.example", c}});
  CHECK(broken.endpoints("r.example", false).error().message.find(d + "/gone.pem") != std::string::npos);
}

TEST_CASE("a turn is given to one at a time and waiting for it can be cancelled") {
  hosts h;
  std::stop_source stop;
  auto first = h.wait_turn("k", stop.get_token());
  REQUIRE(first.ok());
  CHECK(h.wait_turn("other", stop.get_token()).ok());
  stop.request_stop();
  CHECK(h.wait_turn("k", stop.get_token()).error().code == errc::cancelled);
  { auto gone = std::move(first).value(); }
  CHECK(h.wait_turn("k", {}).ok());
}
