#include <catch2/catch.hpp>

#include "base/json_text.hpp"

using namespace kiln;

namespace {

std::string nested(int depth, const std::string& open = "[", const std::string& close = "]") {
  std::string out;
  for (int i = 0; i < depth; ++i) out += open;
  for (int i = 0; i < depth; ++i) out += close;
  return out;
}

}  // namespace

TEST_CASE("a document nested too deeply is refused before it is a value") {
  CHECK(parse_json(nested(json_depth_max)).ok());
  for (int depth : {json_depth_max + 1, 50'000, 100'000, 5'000'000}) {
    auto r = parse_json(nested(depth));
    REQUIRE_FALSE(r.ok());
    CHECK(r.error().code == errc::resource_exhausted);
    CHECK(r.error().message == "JSON nested deeper than 512 levels");
    CHECK_FALSE(parse_json<nlohmann::ordered_json>(nested(depth, "{\"a\":", "}")).ok());
    CHECK(json_or_null(nested(depth)).is_null());
  }
  // Also when it breaks off.
  CHECK_FALSE(parse_json(std::string(100'000, '[')).ok());
  // What is in strings is not nesting.
  auto text = parse_json("[\"" + std::string(100'000, '[') + "\\\"" + std::string(100'000, '{') + "\"]");
  REQUIRE(text.ok());
  CHECK(text_value((*text)[0]).size() == 200'001);
}

TEST_CASE("a document that is too large is refused") {
  CHECK(parse_json("[1,2,3]", 7).ok());
  CHECK(parse_json("[1,2,3]", 6).error().message == "JSON of 7 bytes: more than 6");
}

TEST_CASE("what is no JSON is told with its place, without repeating the document") {
  CHECK(parse_json("{\n \"secret\": hunter2}").error().message == "not JSON: wrong at line 2, column 12");
  for (auto bad : {"", "{", "[1,]", "nul", "\"\xff\"", "1e99999", "{} x", "]]]][[[["}) {
    INFO(bad);
    auto r = parse_json(bad);
    REQUIRE_FALSE(r.ok());
    CHECK(r.error().code == errc::invalid_argument);
    CHECK(r.error().message.starts_with("not JSON: wrong at "));
  }
}

TEST_CASE("values of the wrong type read as not there, and throw nothing") {
  auto j = *parse_json(
      R"({"s":"x","n":7,"big":18446744073709551615,"f":1.5,"b":true,"o":{"k":"v","m":3},"z":null})");
  CHECK(text_member(j, "s") == "x");
  for (auto key : {"n", "f", "b", "o", "z", "none"}) CHECK(text_member(j, key).empty());
  CHECK(integer_member(j, "n") == 7);
  for (auto key : {"s", "big", "f", "b", "o", "z", "none"}) CHECK_FALSE(integer_member(j, key));
  CHECK(true_value(j["b"]));
  CHECK_FALSE(true_value(j["n"]));
  CHECK(text_members(j["o"]) == std::map<std::string, std::string>{{"k", "v"}});
  CHECK(text_members(j["s"]).empty());
  CHECK(member_of(j["s"], "x") == nullptr);
  CHECK(text_member(nlohmann::json::array({1}), "x").empty());
}

TEST_CASE("text that is no UTF-8 is written all the same") {
  nlohmann::json j{{"k",
                    "a\xff"
                    "b"}};
  CHECK(json_text(j) ==
        "{\"k\":\"a\xef\xbf\xbd"
        "b\"}");
  CHECK(json_text(nlohmann::json::array({1, 2}), 1) == "[\n 1,\n 2\n]");
}
