// Looks at the use of resources stay few, whatever is looked at.
#include <catch2/catch.hpp>

#include "base/usage_samples.hpp"

using namespace kiln;

TEST_CASE("Samples are thinned out and taken less often when there are too many") {
  usage_samples samples(std::chrono::milliseconds{100}, 4);
  for (int i = 0; i < 5; ++i) samples.add({{"n", i}});
  CHECK(samples.interval() == std::chrono::milliseconds{200});
  REQUIRE(samples.all().size() == 3);
  CHECK(samples.all()[0]["n"] == 0);
  CHECK(samples.all()[2]["n"] == 4);
  for (int i = 5; i < 1'000; ++i) samples.add({{"n", i}});
  CHECK(samples.all().size() <= 4);
  CHECK(samples.all()[0]["n"] == 0);
  CHECK(samples.interval() == std::chrono::hours{24});
}

TEST_CASE("The machine tells of its processors, processes and memory") {
  auto now = machine_usage(1'700'000'000'000'000'000);
  CHECK(now["timestamp"] == "2023-11-14T22:13:20Z");
  CHECK(now["cpuStat"]["idle"].get<double>() > 0);
  CHECK(now["procStat"]["processCreated"].get<std::uint64_t>() > 0);
  CHECK(now["memoryStat"]["total"].get<std::uint64_t>() > now["memoryStat"]["free"].get<std::uint64_t>());
  CHECK(kernel_pressure("/proc/self/none").is_null());
}
