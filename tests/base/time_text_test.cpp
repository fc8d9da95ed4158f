#include <catch2/catch.hpp>

#include "base/time_text.hpp"

using namespace kiln;

namespace {

constexpr std::int64_t second = 1'000'000'000;

std::int64_t at(const std::string& text) { return *parse_rfc3339(text); }

}  // namespace

TEST_CASE("times are read with any offset and written in UTC with as few digits as needed") {
  CHECK(format_rfc3339(0) == "1970-01-01T00:00:00Z");
  CHECK(format_rfc3339(at("2024-02-29T23:59:59.123456789+02:00")) == "2024-02-29T21:59:59.123456789Z");
  CHECK(format_rfc3339(at("2024-05-01T10:00:01.500-00:30")) == "2024-05-01T10:30:01.5Z");
  CHECK(format_rfc3339(-1) == "1969-12-31T23:59:59.999999999Z");
  CHECK(at("0001-01-01T00:00:00Z") == no_time);
  CHECK(format_rfc3339(no_time) == "0001-01-01T00:00:00Z");
  for (const char* wrong :
       {"", "2024", "2023-02-29T00:00:00Z", "2024-13-01T00:00:00Z", "2024-01-01T24:00:00Z",
        "2024-01-01T00:00:00", "2024-01-01T00:00:00.Z", "2024-01-01T00:00:00Zx", "2024-01-01 00:00:00Z",
        "9999-01-01T00:00:00Z", "2024-01-01T00:00:00+0200"})
    CHECK_FALSE(parse_rfc3339(wrong).has_value());
}

TEST_CASE("times are written with all their digits, or in whole seconds") {
  CHECK(format_rfc3339_nine(1'500'000'000) == "1970-01-01T00:00:01.500000000Z");
  CHECK(format_rfc3339_nine(-1) == "1969-12-31T23:59:59.999999999Z");
  CHECK(format_rfc3339_seconds(1'709'208'000) == "2024-02-29T12:00:00Z");
  CHECK(format_rfc3339_seconds(253'402'300'799) == "9999-12-31T23:59:59Z");
}

TEST_CASE("times too far off to count nanoseconds are the earliest or the latest") {
  CHECK(parse_rfc3339_clamped("1970-01-01T01:00:01.25+01:00") == 1'250'000'000);
  CHECK(parse_rfc3339_clamped("2024-02-29T12:00:00Z") == 1'709'208'000 * second);
  CHECK(parse_rfc3339_clamped("9999-01-01T00:00:00Z") == std::numeric_limits<std::int64_t>::max());
  CHECK(parse_rfc3339_clamped("0001-01-01T00:00:00Z") == no_time);
  CHECK_FALSE(parse_rfc3339_clamped("yesterday"));
  CHECK_FALSE(parse_rfc3339_clamped("2024-02-29 12:00:00"));
}

TEST_CASE("HTTP dates are read in the forms that servers send and written in the one they want") {
  CHECK(format_http_date(784'111'777) == "Sun, 06 Nov 1994 08:49:37 GMT");
  for (auto text :
       {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"})
    CHECK(parse_http_date(text) == 784'111'777);
  CHECK_FALSE(parse_http_date(""));
  CHECK_FALSE(parse_http_date("soon"));
}
