#include <catch2/catch.hpp>

#include "workers/executor/cni_config.hpp"

using namespace kiln::workers;
using nlohmann::json;

TEST_CASE("a CNI configuration is one plugin or a list of them") {
  auto one = parse_cni_network(R"({"cniVersion":"1.0.0","name":"n","type":"bridge"})");
  REQUIRE(one.ok());
  CHECK(one->plugins.size() == 1);
  auto list = parse_cni_network(
      R"({"cniVersion":"0.4.0","name":"n","plugins":[{"type":"bridge"},{"type":"firewall"}]})");
  REQUIRE(list.ok());
  CHECK(list->plugins.size() == 2);
  CHECK(list->version == "0.4.0");
  for (auto bad : {"", "[]", R"({"name":"n"})", R"({"type":"bridge"})", R"({"name":"n","plugins":[]})",
                   R"({"name":"n","type":"../evil"})"})
    CHECK_FALSE(parse_cni_network(bad).ok());
}

TEST_CASE("a plugin reads its configuration, the network's name and the former result") {
  auto network = bridge_cni_network("br0", "10.1.0.0/16");
  auto first = json::parse(cni_plugin_input(network, 0, nullptr));
  CHECK(first["name"] == "buildkit");
  CHECK(first["cniVersion"] == "1.0.0");
  CHECK(first["ipam"]["ranges"][0][0]["subnet"] == "10.1.0.0/16");
  CHECK_FALSE(first.contains("prevResult"));
  auto second = json::parse(cni_plugin_input(network, 1, json{{"ips", json::array()}}));
  CHECK(second["type"] == "firewall");
  CHECK(second["prevResult"].contains("ips"));
}

TEST_CASE("a plugin's error is told in its words") {
  CHECK(cni_error_text(R"({"code":7,"msg":"no address","details":"range full"})") ==
        "no address; range full");
  CHECK(cni_error_text("panic") == "panic");
}
