#include <catch2/catch.hpp>

#include <set>

#include "base/numbers.hpp"
#include "base/text.hpp"

using namespace kiln;

TEST_CASE("text is split at every separator and joined again") {
  for (std::string text : {"", ",", "a", "a,,b,"}) {
    CHECK(join(split(text, ','), ",") == text);
    CHECK(join(split_views(text, ','), ",") == text);
  }
  CHECK(split("", ',') == std::vector<std::string>{""});
  CHECK(split("a,", ',') == std::vector<std::string>{"a", ""});
  CHECK(join(std::set<std::string>{"b", "a"}, ", ") == "a, b");
}

TEST_CASE("text is cut at its first separator") {
  auto [before, after, found] = cut("a=b=c", "=");
  CHECK(before == "a");
  CHECK(after == "b=c");
  CHECK(found);
  CHECK(cut("a", "=").before == "a");
  CHECK_FALSE(cut("a", "=").found);
}

TEST_CASE("blanks go from both ends, and from nowhere else") {
  CHECK(trim(" \t a b\r\n") == "a b");
  CHECK(trim(" \n") == "");
  CHECK(trim("") == "");
  CHECK(trim("/a/", "/") == "a");
  CHECK(trim_right("/a//", "/") == "/a");
}

TEST_CASE("case is that of ASCII letters") {
  CHECK(to_lower("AbÄ") == "abÄ");
  CHECK(to_upper("aBä") == "ABä");
  CHECK(equal_fold("Run", "RUN"));
  CHECK_FALSE(equal_fold("Run", "Runs"));
  CHECK(to_hex(std::string_view("\0\xaf", 2)) == "00af");
}

TEST_CASE("truth and numbers are what Go takes for them") {
  for (auto yes : {"1", "t", "T", "TRUE", "true", "True"}) CHECK(parse_bool(yes) == true);
  for (auto no : {"0", "f", "F", "FALSE", "false", "False"}) CHECK(parse_bool(no) == false);
  for (auto neither : {"", "yes", "tRUE", "2"}) CHECK_FALSE(parse_bool(neither));
  CHECK(parse_int("+7") == 7);
  CHECK(parse_int("-7") == -7);
  for (auto bad : {"", "+", "+-7", "7 ", "9223372036854775808"}) CHECK_FALSE(parse_int(bad));
  CHECK(parse_uint("755", 8, 07777) == 0755);
  CHECK_FALSE(parse_uint("17777", 8, 07777));
}
