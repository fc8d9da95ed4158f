#include <catch2/catch.hpp>

#include <map>

#include "messages/filter.hpp"

using namespace kiln;

namespace {

const std::map<std::string, std::string> sample = {{"type", "exec.cachemount"},
                                                   {"description", "mount / from exec /bin/sh"},
                                                   {"mutable", ""},
                                                   {"labels.a.b", "x,y"}};

bool matches(std::vector<std::string> expressions) {
  auto f = filter::parse(expressions);
  REQUIRE(f.ok());
  return f->matches([](std::span<const std::string> path) -> std::optional<std::string> {
    std::string key;
    for (const auto& part : path) key += (key.empty() ? "" : ".") + part;
    auto found = sample.find(key);
    if (found == sample.end()) return std::nullopt;
    return found->second;
  });
}

std::string failure(const std::string& expression) {
  auto f = filter::parse({expression});
  REQUIRE(!f.ok());
  CHECK(f.error().code == errc::invalid_argument);
  return f.error().message;
}

}  // namespace

TEST_CASE("No filter and an empty filter match everything") {
  CHECK(matches({}));
  CHECK(matches({""}));
  CHECK(matches({"type==no", ""}));
}

TEST_CASE("Selectors compare, search and test for presence") {
  CHECK(matches({"type==exec.cachemount"}));
  CHECK(!matches({"type==regular"}));
  CHECK(matches({"type!=regular"}));
  CHECK(matches({"missing!=x"}));
  CHECK(!matches({"missing==x"}));
  CHECK(matches({"mutable"}));
  CHECK(!matches({"immutable"}));
  CHECK(matches({"description~=exec"}));
  CHECK(matches({"description~=/^mount.*sh$/"}));
  CHECK(matches({"description~=|/bin/sh|"}));
  CHECK(!matches({"description~=^exec"}));
  CHECK(!matches({"description~=(["}));  // a broken expression matches nothing
  CHECK(matches({"labels.\"a.b\"==\"x,y\""}));
  CHECK(matches({"description==\"mount / from exec \\x2fbin\\u002fsh\""}));
}

TEST_CASE("Commas mean and, several expressions mean or") {
  CHECK(matches({"type==exec.cachemount,mutable"}));
  CHECK(!matches({"type==exec.cachemount,immutable"}));
  CHECK(matches({"immutable", "mutable"}));
  CHECK(matches({"type==exec.cachemount, mutable"}));
}

TEST_CASE("Malformed filters are refused with the place of the error") {
  CHECK(failure("type=x") == "filters: parse error: [type >|=|< x]: unsupported operator \"=\"");
  CHECK(failure("type==") == "filters: parse error: [type==]: expected value or quoted");
  CHECK(failure("==x") == "filters: parse error: [ >|=|< =x]: expected field or quoted");
  CHECK(failure("a==b c") == "filters: parse error: [a==b >| |< c]: unexpected input:  ");
  CHECK(failure("a,").find("expected field or quoted") != std::string::npos);
  CHECK(failure("a==\"b").find("quoted literal not terminated") != std::string::npos);
  CHECK(failure("a==/b/").find("invalid quote encountered") != std::string::npos);
  CHECK(failure("a==\"\\q\"").find("illegal escape sequence") != std::string::npos);
}
