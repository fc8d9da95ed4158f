#include "actors/handler_watch.hpp"

#include <catch2/catch.hpp>

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "messages/actor_interfaces.hpp"

using namespace kiln;
using namespace std::chrono_literals;

namespace {

std::mutex mutex;
std::vector<std::string> lines;

void keep(const std::string& line) {
  std::lock_guard lock(mutex);
  lines.push_back(line);
}

using wait_atom = caf::atom_constant<caf::atom("wait")>;

struct watched_config : caf::actor_system_config {
  explicit watched_config(bool crowded = false) {
    add_message_types<caf::id_block::kiln>();
    actors::watch_handlers(
        *this, 50ms, keep, crowded ? +[] { return true; } : +[] { return false; });
  }
};

struct named_state {
  const char* name = "sleeper";
};

/// Waits in its handler for as many milliseconds as it is told.
caf::behavior sleeper(caf::stateful_actor<named_state>*, caf::unit_t) {
  return {[](wait_atom, std::uint64_t ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }};
}

/// Computes for that long.
caf::behavior worker(caf::stateful_actor<named_state>*, caf::unit_t) {
  return {[](wait_atom, std::uint64_t ms) {
    auto until = actors::thread_times::now().cpu + static_cast<std::int64_t>(ms) * 1'000'000;
    while (actors::thread_times::now().cpu < until) {
    }
  }};
}

}  // namespace

TEST_CASE("a handler that waits for too long, or computes, is told with its actor and message") {
  lines.clear();
  {
    watched_config config;
    caf::actor_system system(config);
    auto a = system.spawn(sleeper, caf::unit);
    auto b = system.spawn(worker, caf::unit);
    for (const auto& who : {a, b})
      for (std::uint64_t ms : {0, 80, 0}) caf::anon_send(who, wait_atom::value, ms);
    for (const auto& who : {a, b}) caf::anon_send_exit(who, caf::exit_reason::user_shutdown);
  }
  REQUIRE(lines.size() == 2);
  for (const auto& line : lines) {
    CHECK_THAT(line, Catch::StartsWith("slow handler: sleeper took "));
    CHECK_THAT(line, Catch::Contains("(wait, "));
  }
}

TEST_CASE("where there are too few cores a handler that waits may do so for others that have none") {
  lines.clear();
  {
    watched_config config(true);
    caf::actor_system system(config);
    for (const auto& who : {system.spawn(sleeper, caf::unit), system.spawn(worker, caf::unit)}) {
      caf::anon_send(who, wait_atom::value, std::uint64_t{80});
      caf::anon_send_exit(who, caf::exit_reason::user_shutdown);
    }
  }
  REQUIRE(lines.size() == 1);  // the one that computes
}

TEST_CASE("a handler that starts slowly is told by the name it then has") {
  lines.clear();
  {
    watched_config config;
    caf::actor_system system(config);
    system.spawn(
        [](caf::stateful_actor<named_state>*, caf::unit_t) -> caf::behavior {
          std::this_thread::sleep_for(80ms);
          return {[](int) {}};
        },
        caf::unit);
  }
  REQUIRE(lines.size() == 1);
  CHECK_THAT(lines[0], Catch::StartsWith("slow handler: sleeper took "));
  CHECK_THAT(lines[0], Catch::Contains("to start"));
}

TEST_CASE("time without a core is not a thread's own") {
  // More threads than cores: each waits for its turn, and blocks for nothing.
  auto count = 3 * std::thread::hardware_concurrency();
  std::vector<actors::thread_times> took(count);
  {
    std::vector<std::jthread> threads;
    for (auto& t : took)
      threads.emplace_back([&t] {
        auto before = actors::thread_times::now();
        while ((actors::thread_times::now() - before).cpu < 50'000'000) {
        }
        t = actors::thread_times::now() - before;
      });
  }
  std::int64_t queued = 0;
  for (const auto& t : took) {
    queued += t.queued;
    CHECK(t.blocked() < 20'000'000);
  }
  CHECK(queued > 50'000'000);
}
