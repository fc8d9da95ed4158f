#include "node/daemon_options.hpp"

#include <catch2/catch.hpp>

using namespace kiln;

TEST_CASE("the socket's group is a name or an id that there can be") {
  configs::daemon_config config;
  auto group = [&](const std::string& text) {
    config.group = text;
    return node::gateway_options(config);
  };
  CHECK(group("17")->owner.gid == 17u);
  CHECK(group("root")->owner.gid == 0u);
  CHECK(group("4294967312").error().message ==
        "--group: 4294967312 is no id of a group");  // 16 more than fit
  CHECK(group("4294967295").error().message == "--group: 4294967295 is no id of a group");
  CHECK(group("nobody-has-this").error().message == "--group: no group named \"nobody-has-this\"");
}
