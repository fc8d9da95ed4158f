#include <catch2/catch.hpp>

#include "base/plain_text.hpp"

using namespace kiln;

TEST_CASE("outside text stays on its line and says nothing to a terminal") {
  CHECK(one_line("a\nb\tc\r\x1b[31m\x7f") == "a\\nb\\tc\\r\\x1b[31m\\x7f");
  CHECK(one_line("ünï\u4e2d\u200d") == "ünï\u4e2d\u200d");
  CHECK(one_line("\u0085\u009b\u2028\u2029\u202e\u2066") == "\\x85\\x9b\\u2028\\u2029\\u202e\\u2066");
  CHECK(one_line("\xff\xc0\xaf") == "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
  CHECK(printable("a\n\tb\r\x1b") == "a\n\tb\\r\\x1b");
}

TEST_CASE("a program's output keeps its colours and cannot leave its line") {
  CHECK(output_line("\x1b[1;31mred\x1b[0m\tx") == "\x1b[1;31mred\x1b[0m\tx");
  CHECK(output_line("50%\r#7 DONE 0.1s") == "50% #7 DONE 0.1s");
  CHECK(output_line("dos\r") == "dos");
  CHECK(output_line("\x1b[2J\x1b[1A\x1b[Kx\x1b]52;c;ZXZpbA==\ay\x1b]0;t\x1b\\z\x1b(B\b\x07") == "xyzB");
  CHECK(output_line("end\x1b[31") == "end[31");
  CHECK(output_line("\u009b2J\x1b[?25lm") == "2Jm");
}
