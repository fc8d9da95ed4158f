#include <catch2/catch.hpp>

#include <algorithm>
#include <atomic>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "base/parallel.hpp"
#include "base/thread_pool.hpp"

using namespace kiln;

TEST_CASE("every piece of parallel work is done once, by no more threads than wanted") {
  for (std::size_t count : {0u, 1u, 3u, 100u}) {
    std::vector<std::atomic<int>> done(count);
    std::atomic<int> now{0}, most{0};
    parallel_for("test", count, 4, [&](std::size_t i) {
      int mine = ++now;
      for (int seen = most; mine > seen && !most.compare_exchange_weak(seen, mine);) {
      }
      ++done[i];
      --now;
    });
    CHECK(std::all_of(done.begin(), done.end(), [](const auto& d) { return d == 1; }));
    CHECK(most <= 4);
  }
}

TEST_CASE("after a failure no further piece is begun, and the failure is what comes back") {
  std::atomic<int> begun{0};
  auto outcome = parallel_try("test", 1000, 1, [&](std::size_t i) -> status {
    ++begun;
    if (i == 2) return make_error(errc::data_loss, "the third");
    return {};
  });
  REQUIRE_FALSE(outcome.ok());
  CHECK(outcome.error().message == "the third");
  CHECK(begun == 3);
  CHECK(parallel_try("test", 1000, 4, [](std::size_t) { return status(); }).ok());
}

TEST_CASE("a pool that refuses nothing runs all of it, in order when it has one thread") {
  std::vector<int> order;
  {
    thread_pool pool("one", 1);
    for (int i = 0; i < 100; ++i) REQUIRE(pool.submit([&order, i] { order.push_back(i); }));
  }
  REQUIRE(order.size() == 100);
  CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST_CASE("a pool without threads runs work where it is asked for") {
  thread_pool pool("none", 0);
  auto here = std::this_thread::get_id();
  bool same = false;
  REQUIRE(pool.submit([&] { same = std::this_thread::get_id() == here; }));
  CHECK(same);
}

TEST_CASE("the last owner of a pool may be one of its own jobs") {
  std::promise<void> gone;
  {
    auto pool = std::make_shared<thread_pool>("own", 2);
    std::promise<void> let_go;
    auto may_end = let_go.get_future().share();
    pool->submit([pool, may_end, &gone]() mutable {
      may_end.wait();
      pool.reset();
      gone.set_value();
    });
    pool.reset();
    let_go.set_value();
  }
  gone.get_future().wait();
}
