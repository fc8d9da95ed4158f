// Threads of pools that ask actors.
#include <catch2/catch.hpp>

#include <latch>
#include <thread>

#include "actors/ask_and_wait.hpp"

using namespace kiln;

namespace {

struct plain_config : caf::actor_system_config {
  plain_config() {
    set("scheduler.max-threads", std::size_t{1});
    set("logger.console", caf::atom("none"));
    add_message_types<caf::id_block::kiln>();
  }
};

caf::behavior doubler(caf::event_based_actor* self, caf::unit_t) {
  return {
      [](std::int32_t n) { return 2 * n; },
      [self](const std::string& why) -> caf::result<std::int32_t> {
        if (why == "die") self->quit(caf::exit_reason::user_shutdown);
        return to_caf(make_error(errc::aborted, why));
      },
  };
}

}  // namespace

TEST_CASE("a thread that has asked an actor does not keep the system from ending") {
  plain_config config;
  auto system = std::make_unique<caf::actor_system>(config);
  auto who = system->spawn(doubler, caf::unit);
  std::latch asked{1}, over{1};
  std::int32_t answer = 0;
  std::jthread of_a_pool([&] {
    std::function<void(std::int32_t&)> take = [&](std::int32_t& n) { answer = n; };
    auto s = actors::ask_and_wait(*system, who, caf::infinite, take, std::int32_t{21});
    if (!s.ok()) answer = -1;
    asked.count_down();
    over.wait();  // threads of pools live on
  });
  asked.wait();
  CHECK(answer == 42);
  caf::anon_send_exit(who, caf::exit_reason::user_shutdown);
  who = nullptr;
  system.reset();
  over.count_down();
  SUCCEED("the system has ended first");
}

TEST_CASE("whoever asks hears of failures, and of an actor that goes") {
  plain_config config;
  caf::actor_system system{config};
  auto who = system.spawn(doubler, caf::unit);
  auto ask = [&](const std::string& what) {
    std::function<void(std::int32_t&)> take = [](std::int32_t&) {};
    return actors::ask_and_wait(system, who, caf::infinite, take, what);
  };
  CHECK(ask("no").error().message == "no");
  CHECK(ask("no").error().code == errc::aborted);
  CHECK_FALSE(ask("die").ok());
  CHECK(ask("gone").error().code == errc::unavailable);
}
