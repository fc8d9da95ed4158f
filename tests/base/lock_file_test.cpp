#include "base/lock_file.hpp"

#include <catch2/catch.hpp>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/support/temp_dir.hpp"

using namespace kiln;

TEST_CASE("a lock file is one holder's at a time, and gone with it") {
  test::temp_dir dir;
  auto path = dir / "lock";
  {
    auto held = lock_file::take(path);
    REQUIRE(held.ok());
    auto moved = *std::move(held);
    auto second = lock_file::take(path);
    REQUIRE_FALSE(second.ok());
    CHECK(second.error().code == errc::failed_precondition);
    CHECK(second.error().message == "could not lock " + path.string() + ", another instance is running");
    CHECK(std::filesystem::exists(path));
  }
  CHECK_FALSE(std::filesystem::exists(path));
  // What a killed process left is nobody's.
  test::write_file(path, "");
  CHECK(lock_file::take(path).ok());
}

TEST_CASE("of many who come and go no two hold a lock file at once") {
  test::temp_dir dir;
  std::atomic<int> holders{0};
  std::atomic<bool> two{false};
  std::vector<std::thread> all;
  for (int i = 0; i < 8; ++i)
    all.emplace_back([&] {
      for (int n = 0; n < 2'000; ++n) {
        auto held = lock_file::take(dir / "lock");
        if (!held.ok()) continue;
        if (++holders > 1) two = true;
        --holders;
      }
    });
  for (auto& t : all) t.join();
  CHECK_FALSE(two);
}
