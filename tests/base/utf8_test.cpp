#include <catch2/catch.hpp>

#include <string>
#include <vector>

#include "base/utf8.hpp"

using namespace kiln;

TEST_CASE("bytes that are no UTF-8 are replaced, valid text is untouched") {
  CHECK(valid_utf8("grün 漢 🙂") == "grün 漢 🙂");
  CHECK(is_valid_utf8("grün 漢 🙂"));
  CHECK(valid_utf8("a\xff"
                   "b") ==
        "a\xef\xbf\xbd"
        "b");
  CHECK(valid_utf8("\xc3") == "\xef\xbf\xbd");     // cut short
  CHECK_FALSE(is_valid_utf8("\xc0\xaf"));          // overlong
  CHECK_FALSE(is_valid_utf8("\xed\xa0\x80"));      // surrogate
  CHECK_FALSE(is_valid_utf8("\xf4\x90\x80\x80"));  // above U+10FFFF
}

TEST_CASE("a byte that begins no character is one of its own") {
  std::string text =
      "a\xed\xa0"
      "ä🙂";
  std::vector<char32_t> found;
  for (std::size_t at = 0; at < text.size();) found.push_back(next_code_point(text, at));
  CHECK(found == std::vector<char32_t>{'a', 0xFFFD, 0xFFFD, 0xE4, 0x1F642});
  CHECK(first_code_point("\xed\xa0").value == 0xED);
  CHECK(first_code_point("\xed\xa0").width == 1);
  CHECK(first_code_point("🙂").width == 4);
}

TEST_CASE("what is decoded is encoded again as it was") {
  for (char32_t c : {U'a', U'\u00e4', U'\u6f22', U'\U0001f642', U'\U0010ffff'}) {
    std::string text;
    append_utf8(text, c);
    std::size_t at = 0;
    CHECK(next_code_point(text, at) == c);
    CHECK(at == text.size());
  }
}
