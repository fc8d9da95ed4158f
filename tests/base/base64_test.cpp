#include <catch2/catch.hpp>

#include <string>
#include <utility>

#include "base/base64.hpp"

using namespace kiln;

TEST_CASE("base64 is padded, and read in full quartets only") {
  const std::pair<std::string, std::string> rows[] = {
      {"", ""}, {"a", "YQ=="}, {"ab", "YWI="}, {"abc", "YWJj"}, {std::string("\0\xff", 2), "AP8="}};
  for (const auto& [bytes, text] : rows) {
    CHECK(base64_encode(bytes) == text);
    CHECK(base64_decode(text) == bytes);
  }
  for (auto bad : {"Y", "YQ", "YQ=", "YQ==\n", " YQ==", "Y===", "====", "Y=Q=", "YQ-_"})
    CHECK_FALSE(base64_decode(bad));
}
