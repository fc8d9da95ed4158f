// What control groups of either version tell, from files as kernels write them.
#include <catch2/catch.hpp>

#include "tests/support/temp_dir.hpp"
#include "workers/executor/step_usage.hpp"

namespace kiln::workers {

TEST_CASE("A group of version 2 tells processor time, memory, input and output, and processes") {
  test::temp_dir dir;
  test::write_file(
      dir / "cpu.stat",
      "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 7\nnr_throttled 2\nthrottled_usec 30\n");
  test::write_file(dir / "cpu.pressure", "some avg10=1.50 avg60=0.20 avg300=0.00 total=1234\n");
  test::write_file(dir / "memory.stat", "anon 4096\nfile 8192\npgfault 12\nunknown 1\n");
  test::write_file(dir / "memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n");
  test::write_file(dir / "memory.peak", "123456\n");
  test::write_file(dir / "memory.swap.current", "0\n");
  test::write_file(dir / "io.stat",
                   "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=5 wbytes=0\n");
  test::write_file(dir / "pids.current", "3\n");
  group_places group;
  group.unified = dir.path().string();
  auto u = group_usage(group, 1'700'000'000'000'000'000);
  CHECK(u["timestamp"] == "2023-11-14T22:13:20Z");
  CHECK(u["cpuStat"]["usageNanos"] == 1'500'000);
  CHECK(u["cpuStat"]["systemNanos"] == 500'000);
  CHECK(u["cpuStat"]["nrThrottled"] == 2);
  CHECK(u["cpuStat"]["throttledNanos"] == 30'000);
  CHECK(u["cpuStat"]["pressure"]["some"]["avg10"] == 1.5);
  CHECK(u["cpuStat"]["pressure"]["some"]["total"] == 1234);
  CHECK(u["memoryStat"]["anon"] == 4096);
  CHECK(u["memoryStat"]["peak"] == 123456);
  CHECK(u["memoryStat"]["oomKillEvents"] == 1);
  CHECK_FALSE(u["memoryStat"].contains("lowEvents"));
  CHECK_FALSE(u["memoryStat"].contains("unknown"));
  CHECK(u["ioStat"]["readBytes"] == 15);
  CHECK(u["ioStat"]["writeIOs"] == 2);
  CHECK(u["pidsStat"]["current"] == 3);
}

TEST_CASE("Groups of version 1 tell the same, each controller its own part") {
  test::temp_dir dir;
  test::write_file(dir / "cpuacct/cpuacct.usage", "2000000\n");
  test::write_file(dir / "cpuacct/cpuacct.stat", "user 3\nsystem 1\n");
  test::write_file(dir / "cpu/cpu.stat", "nr_periods 4\nnr_throttled 1\nthrottled_time 99\n");
  test::write_file(dir / "memory/memory.stat", "cache 1\ntotal_cache 100\ntotal_rss 200\ntotal_pgfault 5\n");
  test::write_file(dir / "memory/memory.max_usage_in_bytes", "777\n");
  test::write_file(dir / "blkio/blkio.throttle.io_service_bytes_recursive",
                   "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\n8:16 Read 1\nTotal 31\n");
  test::write_file(dir / "blkio/blkio.throttle.io_serviced_recursive", "8:0 Read 2\n");
  group_places group;
  for (const char* c : {"cpuacct", "cpu", "memory", "blkio"}) group.controllers[c] = (dir / c).string();
  auto u = group_usage(group, 0);
  CHECK(u["cpuStat"]["usageNanos"] == 2'000'000);
  CHECK(u["cpuStat"]["userNanos"].get<std::uint64_t>() == 3 * 10'000'000);
  CHECK(u["cpuStat"]["throttledNanos"] == 99);
  CHECK(u["memoryStat"]["anon"] == 200);
  CHECK(u["memoryStat"]["file"] == 100);
  CHECK(u["memoryStat"]["peak"] == 777);
  CHECK(u["ioStat"]["readBytes"] == 11);
  CHECK(u["ioStat"]["writeBytes"] == 20);
  CHECK(u["ioStat"]["readIOs"] == 2);
  CHECK_FALSE(u.contains("pidsStat"));
}

TEST_CASE("A group that is not there tells nothing") {
  test::temp_dir dir;
  group_places group;
  group.unified = (dir / "none").string();
  CHECK(group_usage(group, 0).is_null());
}

}  // namespace kiln::workers
