#include <catch2/catch.hpp>

#include <thread>

#include "fakes.hpp"

using namespace kiln;
using namespace kiln::test;

TEST_CASE("the stepped scheduler runs what other threads send, on the test's thread") {
  constexpr int senders = 4, messages = 5000;
  test_config config;
  caf::actor_system system{config};
  auto& sched = stepped_scheduler::of(system);
  int heard = 0;
  // Many receivers, so that nearly each message is an actor that becomes ready: that is what threads enqueue.
  std::vector<caf::actor> receivers;
  for (int i = 0; i < 100; ++i)
    receivers.push_back(
        system.spawn([&heard](caf::event_based_actor*,
                              caf::unit_t) -> caf::behavior { return {[&heard](int) { ++heard; }}; },
                     caf::unit));
  sched.run();
  std::vector<std::thread> threads;
  for (int t = 0; t < senders; ++t)
    threads.emplace_back([&receivers] {
      for (int i = 0; i < messages; ++i)
        caf::anon_send(receivers[static_cast<std::size_t>(i) % receivers.size()], i);
    });
  while (heard < senders * messages / 2) sched.run();
  for (auto& t : threads) t.join();
  sched.run();
  CHECK(heard == senders * messages);
  for (auto& r : receivers) caf::anon_send_exit(r, caf::exit_reason::user_shutdown);
  sched.run();
}
