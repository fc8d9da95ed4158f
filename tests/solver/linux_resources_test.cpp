// Limits of one step that several builds share.
#include <catch2/catch.hpp>

#include "solver/linux_resources.hpp"

namespace kiln::solver {
namespace {

pb::LinuxResources memory_of(std::int64_t memory, std::int64_t swap) {
  pb::LinuxResources out;
  out.set_memory(memory);
  out.set_memoryswap(swap);
  return out;
}

pb::LinuxResources time_of(std::int64_t quota, std::uint64_t period) {
  pb::LinuxResources out;
  out.set_cpuquota(quota);
  out.set_cpuperiod(period);
  return out;
}

std::string processors(const std::string& a, const std::string& b) {
  pb::LinuxResources left, right;
  left.set_cpusetcpus(a);
  right.set_cpusetcpus(b);
  auto out = laxest(left, right).cpusetcpus();
  CHECK(laxest(right, left).cpusetcpus() == out);
  return out;
}

}  // namespace

TEST_CASE("Builds that share a step let it have the most memory that one of them allows") {
  CHECK(laxest(memory_of(64, 0), memory_of(128, 0)).memory() == 128);
  CHECK(laxest(memory_of(64, 0), memory_of(0, 0)).memory() == 0);
  CHECK(laxest(memory_of(0, 100), memory_of(0, 0)).memoryswap() == 100);
  CHECK(laxest(memory_of(0, 100), memory_of(0, -1)).memoryswap() == -1);
  CHECK(laxest(memory_of(0, 100), memory_of(0, 200)).memoryswap() == 200);
}

TEST_CASE("Of two bounds of processor time the one that lets more through is taken whole") {
  auto more = laxest(time_of(50'000, 100'000), time_of(20'000, 20'000));
  CHECK(more.cpuquota() == 20'000);
  CHECK(more.cpuperiod() == 20'000);
  auto equal = laxest(time_of(50'000, 100'000), time_of(25'000, 50'000));
  CHECK(equal.cpuperiod() == 50'000);
  auto endless = laxest(time_of(50'000, 100'000), time_of(0, 30'000));
  CHECK(endless.cpuquota() == 0);
  CHECK(endless.cpuperiod() == 30'000);
  CHECK(laxest(time_of(50'000, 0), time_of(60'000, 100'000)).cpuquota() == 60'000);
  pb::LinuxResources few, many;
  few.set_cpushares(2);
  many.set_cpushares(512);
  CHECK(laxest(few, many).cpushares() == 512);
  CHECK(laxest(few, {}).cpushares() == 2);
}

TEST_CASE("Sets of processors become one, and whoever names none may have all") {
  CHECK(processors("0-1", "2") == "0-2");
  CHECK(processors("0,4-5", "2") == "0,2,4-5");
  CHECK(processors("0-1", "") == "");
  CHECK(processors("0-1", "x") == "0-1");
  CHECK(processors("0-4294967295", "1") == "1");
}

}  // namespace kiln::solver
