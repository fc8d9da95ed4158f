#include "messages/image_reference.hpp"

#include <catch2/catch.hpp>

using kiln::parse_image_reference;

TEST_CASE("references are normalized as Docker users expect") {
  struct row {
    const char *in, *full, *familiar;
  };
  const row rows[] = {
      {"alpine", "docker.io/library/alpine", "alpine"},
      {"alpine:3.19", "docker.io/library/alpine:3.19", "alpine:3.19"},
      {"index.docker.io/alpine", "docker.io/library/alpine", "alpine"},
      {"moby/buildkit:v0.1", "docker.io/moby/buildkit:v0.1", "moby/buildkit:v0.1"},
      {"localhost/app", "localhost/app", "localhost/app"},
      {"localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"},
      {"127.0.0.1:5000/x", "127.0.0.1:5000/x", "127.0.0.1:5000/x"},
      {"[::1]:5000/x:y", "[::1]:5000/x:y", "[::1]:5000/x:y"},
      {"[1]:5000/x", "[1]:5000/x", "[1]:5000/x"},
      {"ghcr.io/a/b__c/d-e.f:T_1", "ghcr.io/a/b__c/d-e.f:T_1", "ghcr.io/a/b__c/d-e.f:T_1"},
      {"docker.io/library/busybox", "docker.io/library/busybox", "busybox"},
      {"Upper/app", "Upper/app", "Upper/app"},
  };
  for (const auto& r : rows) {
    INFO(r.in);
    auto ref = parse_image_reference(r.in);
    REQUIRE(ref.ok());
    CHECK(ref->str() == r.full);
    CHECK(ref->familiar() == r.familiar);
  }
}

TEST_CASE("a digest is kept beside the tag, and stands in for a missing one") {
  std::string d = "sha256:" + std::string(64, 'a');
  auto both = parse_image_reference("alpine:3@" + d);
  REQUIRE(both.ok());
  CHECK(both->tag == "3");
  CHECK(both->digest.str() == d);
  CHECK(parse_image_reference("alpine@" + d)->tagged().tag.empty());
  CHECK(parse_image_reference("alpine")->tagged().tag == "latest");
}

TEST_CASE("malformed references are refused with the reason") {
  for (const char* bad : {"",      "a:",     ":tag",        "a//b", "/a",          "a/",          "-a",
                          "a..b",  "a:b:c/", "a@sha256:12", "a b",  "host:port/x", "[]/x",        "[1/x",
                          "[g]/x", "a::b",   "a___b",       "x:",   "http://a/b",  "a@random:abc"}) {
    INFO(bad);
    auto r = parse_image_reference(bad);
    REQUIRE_FALSE(r.ok());
    CHECK(r.error().message.find("invalid reference format") != std::string::npos);
  }
  CHECK(parse_image_reference("docker.io/Library/x").error().message.find("must be lowercase") !=
        std::string::npos);
  CHECK(parse_image_reference(std::string(64, 'a')).error().message.find("64-byte hexadecimal") !=
        std::string::npos);
  CHECK(parse_image_reference("a/" + std::string(300, 'b')).error().message.find("255") != std::string::npos);
  CHECK_FALSE(parse_image_reference("a:" + std::string(129, 't')).ok());
}

TEST_CASE("an error names the text that was no reference where nobody else does") {
  CHECK(kiln::read_image_reference("a::b").error().message ==
        "failed to parse reference \"a::b\": invalid reference format");
}
