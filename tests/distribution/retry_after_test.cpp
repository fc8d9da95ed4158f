#include "distribution/retry_after.hpp"

#include <catch2/catch.hpp>

using namespace kiln::distribution;
using std::chrono::seconds;

TEST_CASE("Retry-After is read as seconds or as a date, by whoever asks again") {
  constexpr std::time_t now = 784'111'777;  // Sun, 06 Nov 1994 08:49:37 GMT
  auto asked = [](std::string text) { return retry_after({{"retry-after", std::move(text)}}, now); };
  CHECK(asked("0") == seconds(0));
  CHECK(asked(" 120 ") == seconds(120));
  CHECK(asked("Sun, 06 Nov 1994 08:50:07 GMT") == seconds(30));
  CHECK(asked("Sun, 06 Nov 1994 08:00:00 GMT") == seconds(0));
  CHECK_FALSE(asked("-1"));
  CHECK_FALSE(asked("soon"));
  CHECK_FALSE(asked("99999999999999999999"));
  CHECK_FALSE(asked("Sun, 06 Nov 2094 08:50:07 GMT"));
  CHECK_FALSE(retry_after({}, now));
}
