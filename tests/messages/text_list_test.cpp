#include "messages/text_list.hpp"

#include <catch2/catch.hpp>

using namespace kiln;
using texts = std::vector<std::string>;

TEST_CASE("a list has its bytes beside the JSON only where JSON cannot say them") {
  CHECK_FALSE(list_bytes({}).has_value());
  CHECK_FALSE(list_bytes({"a", "gr\xc3\xbcn", ""}).has_value());
  texts odd{"a", "", "latin\xe9", "\xff\xfe"};
  auto bytes = list_bytes(odd);
  REQUIRE(bytes.has_value());
  auto back = parse_list_bytes(*bytes);
  REQUIRE(back.ok());
  CHECK(*back == odd);
  CHECK(parse_list_bytes("")->empty());
  CHECK(parse_list_bytes("not ended").error().code == errc::invalid_argument);
}
