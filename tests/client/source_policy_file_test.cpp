#include "client/build/source_policy_file.hpp"

#include <catch2/catch.hpp>

#include <cstdlib>

#include "tests/support/temp_dir.hpp"

using namespace kiln;
using namespace kiln::client;
namespace sp = moby::buildkit::v1::sourcepolicy;

namespace {

std::string refusal(std::string_view text) {
  auto policy = parse_source_policy(text);
  return policy.ok() ? "taken" : policy.error().message;
}

}  // namespace

TEST_CASE("a source policy is read as it stands, keys in any case") {
  auto policy = parse_source_policy(R"({"Version": 1, "Rules": [
    {"Action": "DENY", "Selector": {"Identifier": "docker-image://docker.io/library/busybox*", "matchType": "EXACT"}},
    {"action": 2, "selector": {"identifier": "a", "match_type": "REGEX",
                               "constraints": [{"key": "k", "value": "v", "condition": "NOTEQUAL"}]},
     "updates": {"identifier": "b", "attrs": {"http.checksum": "sha256:x"}}},
    {"selector": {"identifier": "c"}, "updates": null}]})");
  REQUIRE(policy.ok());
  CHECK(policy->version() == 1);
  REQUIRE(policy->rules_size() == 3);
  CHECK(policy->rules(0).action() == sp::DENY);
  CHECK(policy->rules(0).selector().match_type() == sp::EXACT);
  CHECK(policy->rules(1).action() == sp::CONVERT);
  CHECK(policy->rules(1).selector().constraints(0).condition() == sp::NOTEQUAL);
  CHECK(policy->rules(1).updates().attrs().at("http.checksum") == "sha256:x");
  CHECK(policy->rules(2).action() == sp::ALLOW);
}

TEST_CASE("what is not understood in a source policy is never taken for leave") {
  CHECK(refusal(R"({"rules":[{"action":"deny"}]})") ==
        "rules[0].action: unknown value \"deny\", expected one of ALLOW, DENY, CONVERT");
  CHECK(refusal(R"({"rules":[{"action":7}]})") ==
        "rules[0].action: unknown value 7, expected one of ALLOW, DENY, CONVERT");
  CHECK(refusal(R"({"rules":[{"action":true}]})").starts_with("rules[0].action: unknown value true"));
  CHECK(refusal(R"({"rules":[{"actoin":"DENY"}]})") == "rules[0].actoin: unknown key");
  CHECK(refusal(R"({"rule":[]})") == "rule: unknown key");
  CHECK(refusal(R"({"rules":[{"selector":{"match_type":"GLOB"}}]})")
            .starts_with("rules[0].selector.match_type: unknown value"));
  CHECK(refusal(R"({"rules":[{"selector":"docker-image://x"}]})") == "rules[0].selector: expected an object");
  CHECK(refusal(R"({"rules":{"action":"DENY"}})") == "rules: expected a list");
  CHECK(refusal(R"({"rules":[{"updates":{"attrs":{"a":1}}}]})") ==
        "rules[0].updates.attrs.a: expected a string");
  CHECK(refusal("[]") == "policy: expected an object");
  CHECK(refusal("no json") != "taken");
}

TEST_CASE("the file named on the command line goes before the one that the environment names") {
  constexpr const char* variable = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY";
  struct unset {
    ~unset() { ::unsetenv(variable); }
  } at_end;
  test::temp_dir dir;
  auto file = [&](const char* name, const std::string& text) {
    test::write_file(dir / name, text);
    return (dir / name).string();
  };
  auto of = [](const char* action) {
    return std::string(R"({"rules":[{"action":")") + action + R"(","selector":{"identifier":"x"}}]})";
  };
  ::unsetenv(variable);
  CHECK_FALSE(source_policy_of("").value().has_value());
  ::setenv(variable, "", 1);
  CHECK_FALSE(source_policy_of("").value().has_value());
  auto denies = file("denies", of("DENY")), converts = file("converts", of("CONVERT"));
  ::setenv(variable, denies.c_str(), 1);
  CHECK(source_policy_of("").value()->rules(0).action() == sp::DENY);
  CHECK(source_policy_of(converts).value()->rules(0).action() == sp::CONVERT);
  // What cannot be read, or is none, is an error and never "no policy".
  for (const auto& text : {"", "null!", "\x08\x01"}) {
    ::setenv(variable, file("bad", text).c_str(), 1);
    CHECK(source_policy_of("").error().message.starts_with(
        "failed to unmarshal source policy of EXPERIMENTAL_BUILDKIT_SOURCE_POLICY \"" +
        (dir / "bad").string() + "\": "));
  }
  ::setenv(variable, (dir / "absent").c_str(), 1);
  CHECK(source_policy_of("").error().code == errc::not_found);
}
