#include <catch2/catch.hpp>

#include "base/quoting.hpp"

using namespace kiln;

TEST_CASE("JSON strings have Go's escapes") {
  CHECK(go_json_string("a\"\\\n\x01\x7f<>&") == "\"a\\\"\\\\\\n\\u0001\x7f\\u003c\\u003e\\u0026\"");
  CHECK(go_json_string("\xe2\x80\xa8 \xc3\xa4 \xff\xc3") == "\"\\u2028 \xc3\xa4 \\ufffd\\ufffd\"");
  CHECK(go_json_string("\xed\xa0\x80") == "\"\\ufffd\\ufffd\\ufffd\"");
}

TEST_CASE("JSON that no browser reads keeps <, > and &") {
  CHECK(go_json_string("<&>\b", false) == "\"<&>\\b\"");
}

TEST_CASE("text that is only hashed keeps the bytes that are no UTF-8") {
  CHECK(exact_json_string("\xff<") == "\"\xff\\u003c\"");
  CHECK(exact_json_string("\xff") != exact_json_string("\xfe"));
}

TEST_CASE("quotes are Go's %q") {
  CHECK(quote("a\"\\\n\x01\x7f") == "\"a\\\"\\\\\\n\\x01\\x7f\"");
  CHECK(quote("ä\xff") == "\"ä\\xff\"");
  CHECK(quote("\xc2\xa0") == "\"\\u00a0\"");
  CHECK(quote(std::vector<std::string>{"a", "b c"}) == "[\"a\" \"b c\"]");
  CHECK(bracketed({"a", "b c"}) == "[a b c]");
  CHECK(bracketed({}) == "[]");
}
