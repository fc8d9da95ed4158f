#include "messages/platform.hpp"

#include <catch2/catch.hpp>

using namespace kiln;

TEST_CASE("platforms are parsed and normalized as containerd does") {
  CHECK(format_platform(*parse_platform("linux/x86_64")) == "linux/amd64");
  CHECK(format_platform(*parse_platform("linux/arm64/v8")) == "linux/arm64");
  CHECK(format_platform(*parse_platform("linux/arm")) == "linux/arm/v7");
  CHECK(format_platform(*parse_platform("armhf")) == "linux/arm/v7");
  CHECK(parse_platform("linux")->os == "linux");
  for (auto bad : {"", "linux/amd64/v1/x", "nonsense", "linux/*", "a b/c"})
    CHECK_FALSE(parse_platform(bad).ok());
}

TEST_CASE("an older variant serves a newer machine, not the reverse") {
  auto v7 = *parse_platform("linux/arm/v7");
  auto v6 = *parse_platform("linux/arm/v6");
  CHECK(matches(v7, v6));
  CHECK_FALSE(matches(v6, v7));
  CHECK(match_rank(v7, v7) < match_rank(v7, v6));
  CHECK_FALSE(matches(*parse_platform("linux/amd64"), *parse_platform("linux/arm64")));
}
