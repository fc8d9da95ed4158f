#include <catch2/catch.hpp>

#include <chrono>
#include <stop_token>

#include "base/pause.hpp"

using namespace kiln;
using namespace std::chrono_literals;

TEST_CASE("a pause lasts as long as it is told, and ends at once when it is to stop") {
  auto begun = std::chrono::steady_clock::now();
  CHECK(pause_for(5ms, {}));
  CHECK(std::chrono::steady_clock::now() - begun >= 5ms);

  std::stop_source stop;
  stop.request_stop();
  CHECK_FALSE(pause_for(1h, stop.get_token()));
}
