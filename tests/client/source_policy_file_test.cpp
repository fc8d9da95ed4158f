#include "client/build/source_policy_file.hpp"

#include <catch2/catch.hpp>

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
  CHECK(refusal(R"({"rules":[{"action":7}]})") == "rules[0].action: unknown value 7, expected one of ALLOW, DENY, CONVERT");
  CHECK(refusal(R"({"rules":[{"action":true}]})").starts_with("rules[0].action: unknown value true"));
  CHECK(refusal(R"({"rules":[{"actoin":"DENY"}]})") == "rules[0].actoin: unknown key");
  CHECK(refusal(R"({"rule":[]})") == "rule: unknown key");
  CHECK(refusal(R"({"rules":[{"selector":{"match_type":"GLOB"}}]})").starts_with("rules[0].selector.match_type: unknown value"));
  CHECK(refusal(R"({"rules":[{"selector":"docker-image://x"}]})") == "rules[0].selector: expected an object");
  CHECK(refusal(R"({"rules":{"action":"DENY"}})") == "rules: expected a list");
  CHECK(refusal(R"({"rules":[{"updates":{"attrs":{"a":1}}}]})") == "rules[0].updates.attrs.a: expected a string");
  CHECK(refusal("[]") == "policy: expected an object");
  CHECK(refusal("no json") != "taken");
}
