// Faults planted on purpose: a sanitized build that reports none of them is worth nothing. `planted NAME` has
// one of them; `planted messages` has none, though all it does passes from thread to thread through CAF.
#include <caf/all.hpp>

#include <cstdio>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using text = std::string;

/// Actors on the pool's threads that all count in one place, each with messages of its own and no lock.
void count_without_lock(caf::actor_system& system) {
  auto count = std::make_shared<int>(0);
  for (int i = 0; i < 4; ++i) {
    auto counter = system.spawn(
        [count](caf::event_based_actor* self, caf::unit_t) -> caf::behavior {
          return {[=](int left) {
            ++*count;
            if (left > 0) self->send(self, left - 1);
          }};
        },
        caf::unit);
    caf::anon_send(counter, 2000);
  }
  system.await_all_actors_done();
  std::printf("counted %d\n", *count);
}

/// What is written after a message was sent is not what the message handed over.
void write_after_sending(caf::actor_system& system) {
  auto shared = std::make_shared<text>("before");
  auto reader = system.spawn(
      [shared](caf::event_based_actor*, caf::unit_t) -> caf::behavior {
        return {[=](int) { std::printf("%zu letters\n", shared->size()); }};
      },
      caf::unit);
  for (int i = 0; i < 2000; ++i) {
    caf::anon_send(reader, i);
    shared->push_back('x');
  }
}

/// State, messages, answers and ends that pass between a pool's threads, an actor's own thread and one that
/// waits.
void only_messages(caf::actor_system& system) {
  for (int round = 0; round < 50; ++round) {
    auto collect = system.spawn(
        [](caf::event_based_actor*, caf::unit_t) -> caf::behavior {
          auto all = std::make_shared<std::vector<text>>();
          return {[=](const text& more) {
            all->push_back(more);
            return static_cast<int>(all->size());
          }};
        },
        caf::unit);
    std::vector<caf::actor> talkers;
    for (int i = 0; i < 4; ++i) {
      auto talk = [collect](caf::event_based_actor* self, caf::unit_t) -> caf::behavior {
        auto said = std::make_shared<text>();
        return {[=](int left) {
          *said += std::to_string(left);
          self->request(collect, caf::infinite, *said).then([=](int) {
            if (left > 0) self->send(self, left - 1);
          });
        }};
      };
      talkers.push_back(i % 2 == 0 ? system.spawn(talk, caf::unit)
                                   : system.spawn<caf::detached>(talk, caf::unit));
      caf::anon_send(talkers.back(), 20);
    }
    caf::scoped_actor self{system};
    int got = 0;
    while (got < 85)
      self->request(collect, caf::infinite, text(100, 'x'))
          .receive([&](int so_far) { got = so_far; }, [](const caf::error&) {});
    for (auto& talker : talkers) self->send_exit(talker, caf::exit_reason::user_shutdown);
  }
}

int last_of(const int* numbers, int count) { return numbers[count]; }  // one too far

}  // namespace

int main(int argc, char** argv) {
  std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "overrun") {
    auto numbers = std::make_unique<int[]>(8);
    return last_of(numbers.get(), 8) == 42;
  }
  if (name == "overflow") return std::numeric_limits<int>::max() + argc == 42;
  if (name == "leak") {
    auto* lost = new text(100, 'x');
    std::printf("%zu\n", lost->size());
    lost = nullptr;
    return 0;
  }
  caf::actor_system_config config;
  config.set("scheduler.max-threads", 4);
  caf::actor_system system{config};
  if (name == "count") count_without_lock(system);
  else if (name == "late") write_after_sending(system);
  else if (name == "messages") only_messages(system);
  else return 2;
  return 0;
}
