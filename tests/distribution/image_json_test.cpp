#include <catch2/catch.hpp>

#include "base/url.hpp"
#include "distribution/authorizer.hpp"
#include "distribution/image_json.hpp"
#include "distribution/media_types.hpp"
#include "distribution/transport.hpp"

using namespace kiln;
using namespace kiln::distribution;

namespace {
std::string hex(char c) { return "sha256:" + std::string(64, c); }
std::string entry(char c, const std::string& more) {
  return R"({"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":")" + hex(c) +
         R"(","size":1)" + more + "}";
}
}  // namespace

TEST_CASE("the entry that fits a platform best is chosen and attestations are not images") {
  auto m = parse_manifest(
      R"({"schemaVersion":2,"manifests":[)" +
          entry('a', R"(,"platform":{"os":"linux","architecture":"arm","variant":"v6"})") + "," +
          entry('b', R"(,"platform":{"os":"linux","architecture":"arm","variant":"v7"})") + "," +
          entry('c', R"(,"platform":{"os":"linux","architecture":"amd64"})") + "," +
          entry(
              'd',
              R"(,"platform":{"os":"unknown","architecture":"unknown"},"annotations":{"vnd.docker.reference.type":"attestation-manifest"})") +
          "]}",
      media::oci_index);
  REQUIRE(m.ok());
  CHECK(m->is_index);
  auto digest_for = [&](const char* p) {
    auto d = choose_platform(*m, parse_platform(p).value());
    return d ? d->digest.str() : "";
  };
  CHECK(digest_for("linux/amd64") == hex('c'));
  CHECK(digest_for("linux/arm/v7") == hex('b'));
  CHECK(digest_for("linux/arm/v6") == hex('a'));
  CHECK(digest_for("windows/amd64") == "");
  CHECK(is_attestation(m->entries[3]));
}

TEST_CASE("ambiguous and malformed manifests are refused") {
  auto refused = [](const std::string& text, std::string_view type = "") {
    return !parse_manifest(text, type).ok();
  };
  CHECK(refused("[]"));
  CHECK(refused("{"));
  CHECK(refused(R"({"manifests":[],"layers":[]})"));
  CHECK(refused(R"({"mediaType":"application/vnd.oci.image.index.v1+json","config":{},"layers":[]})"));
  CHECK(refused(R"({"manifests":[]})", media::oci_manifest));
  CHECK(refused(R"({"layers":[],"config":{"digest":"sha256:xx","size":1}})"));
  CHECK(refused(R"({"layers":[],"config":{"digest":")" + hex('a') + R"(","size":-1}})"));
  CHECK(refused(R"({"fsLayers":[],"schemaVersion":1})"));
  std::string many = R"({"manifests":[)";
  for (int i = 0; i < 1'100; ++i) many += (i ? "," : "") + entry('a', "");
  CHECK(refused(many + "]}"));
}

TEST_CASE("a manifest nested without end is an error") {
  auto deep = std::string(100'000, '[') + std::string(100'000, ']');
  auto m = parse_manifest(R"({"schemaVersion":2,"layers":[],"x":)" + deep + "}", "");
  REQUIRE_FALSE(m.ok());
  CHECK(m.error().message == "invalid image manifest: JSON nested deeper than 512 levels");
  CHECK_FALSE(parse_manifest(deep, "").ok());
  CHECK(parse_manifest(R"({"layers":)", "")
            .error()
            .message.starts_with("invalid image manifest: not JSON: wrong at "));
}

TEST_CASE("chain ids are those of the specification") {
  auto a = digest::trusted(hex('a')), b = digest::trusted(hex('b'));
  CHECK(chain_id({}).empty());
  CHECK(chain_id({a}) == a);
  CHECK(chain_id({a, b}) == sha256(hex('a') + " " + hex('b')));
}

TEST_CASE("challenges are read with quoted commas, several schemes and odd spacing") {
  headers h;
  h.emplace(
      "www-authenticate",
      R"(Bearer realm="https://auth.example/token?x=1,2",service = "reg", scope="repository:a/b:pull,push")");
  h.emplace("www-authenticate", "Basic realm=plain");
  auto c = parse_challenges(h);
  REQUIRE(c.size() == 2);
  CHECK(c[0].scheme == "bearer");
  CHECK(c[0].parameters["realm"] == "https://auth.example/token?x=1,2");
  CHECK(c[0].parameters["service"] == "reg");
  CHECK(c[0].parameters["scope"] == "repository:a/b:pull,push");
  CHECK(c[1].scheme == "basic");
  CHECK(c[1].parameters["realm"] == "plain");
}

TEST_CASE("scopes are merged by resource and sorted") {
  CHECK(normalize_scopes(
            {"repository:b:push,pull", "repository:a:pull", "repository:b:pull repository:a:delete"}) ==
        std::vector<std::string>{"repository:a:delete,pull", "repository:b:pull,push"});
}
