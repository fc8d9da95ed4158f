#include "exporters/cache/request_pace.hpp"

#include <catch2/catch.hpp>

using kiln::exporters::request_pace;
using seconds = request_pace::seconds;

namespace {

/// Asks as fast as it is let for `length` seconds; how many requests that were.
int asked(request_pace& pace, double& now, double length, double limit_per_second,
          double asking_takes = 0.01) {
  double end = now + length, allowed_at = now;
  int count = 0;
  while (now < end) {
    now += pace.take(seconds(now)).count() + asking_takes;
    bool throttled = now < allowed_at;
    if (!throttled) allowed_at = now + 1 / limit_per_second;
    pace.answered(seconds(now), throttled);
    ++count;
  }
  return count;
}

}  // namespace

TEST_CASE("nobody waits for a service that never says slow down") {
  request_pace pace;
  double now = 100;
  CHECK(asked(pace, now, 10, 1'000) == Approx(1'000).margin(5));
  CHECK(pace.take(seconds(now)).count() == 0);
}

TEST_CASE(
    "a service that says slow down is asked about as often as it answers, and faster again when it "
    "recovers") {
  request_pace pace;
  double now = 100;
  asked(pace, now, 30, 20);
  int slow = asked(pace, now, 30, 20);
  CHECK(slow < 2 * 20 * 30);  // 100 a second, unasked
  CHECK(slow > 20 * 30 / 3);
  asked(pace, now, 60, 1'000);
  int recovered = asked(pace, now, 30, 1'000);
  CHECK(recovered > 2 * slow);
}
