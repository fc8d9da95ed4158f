#include <catch2/catch.hpp>

#include <limits>

#include "base/duration.hpp"

using namespace kiln;

TEST_CASE("durations are Go's") {
  CHECK(*parse_duration("1h30m") == 5'400'000'000'000);
  CHECK(*parse_duration("1.5h") == 5'400'000'000'000);
  CHECK(*parse_duration("2m3s4ms") == 123'004'000'000);
  CHECK(*parse_duration("-1.5s") == -1'500'000'000);
  CHECK(*parse_duration("+.5us") == 500);
  CHECK(*parse_duration("0.3ms") == 300'000);  // exactly, whatever a double makes of it
  CHECK(*parse_duration("1µs2μs") == 3'000);
  CHECK(*parse_duration("0") == 0);
  CHECK(*parse_duration("250ms") == 250'000'000);
  CHECK(*parse_duration("-9223372036854775808ns") == std::numeric_limits<std::int64_t>::min());
  for (auto bad :
       {"", "-", "5", "5 s", "h", "1x", "1h-3m", "--1s", ".s", "99999999999h", "9223372036854775808ns"})
    CHECK_FALSE(parse_duration(bad).ok());
}

TEST_CASE("what is wrong with a duration is said in Go's words") {
  auto said = [](std::string_view text) { return parse_duration(text).error().message; };
  CHECK(said("h") == "time: invalid duration \"h\"");
  CHECK(said("5") == "time: missing unit in duration \"5\"");
  CHECK(said("1x") == "time: unknown unit \"x\" in duration \"1x\"");
}

TEST_CASE("durations are written with as many units and digits as they need") {
  CHECK(format_duration(0) == "0s");
  CHECK(format_duration(1) == "1ns");
  CHECK(format_duration(1'100) == "1.1µs");
  CHECK(format_duration(1'500'000) == "1.5ms");
  CHECK(format_duration(-61'000'000'001) == "-1m1.000000001s");
  CHECK(format_duration(5'400'000'000'000) == "1h30m0s");
  CHECK(format_duration(48 * 3'600'000'000'000) == "48h0m0s");
  CHECK(format_duration(std::numeric_limits<std::int64_t>::min()) == "-2562047h47m16.854775808s");
}
