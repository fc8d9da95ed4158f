// CAF's scheduler for tests, which runs one message at a time on the test's own thread, for tests whose other
// threads send messages too.
#pragma once

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scheduler/test_coordinator.hpp>

#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace kiln::test {

/// CAF's own keeps its queue without a lock, and an enqueue by another thread breaks it. Here those wait
/// under a lock for the next run(), which the thread that made the system calls.
class stepped_scheduler final : public caf::scheduler::test_coordinator {
 public:
  using base = caf::scheduler::test_coordinator;
  using base::base;

  /// Systems of `config` are scheduled so.
  static void install(caf::actor_system_config& config) {
    config.module_factories.push_back(
        [](caf::actor_system& system) { return new stepped_scheduler(system); });
  }
  /// That of a system with such a config.
  static stepped_scheduler& of(caf::actor_system& system) {
    return dynamic_cast<stepped_scheduler&>(system.scheduler());
  }

  /// Runs messages until none is left, whoever sent them.
  void run() {
    do base::run();
    while (take_arrivals());
  }

 private:
  void enqueue(caf::resumable* job) override {
    if (std::this_thread::get_id() == home_) return base::enqueue(job);
    std::lock_guard lock{mutex_};
    arrivals_.push_back(job);
  }
  void stop() override {
    take_arrivals();
    base::stop();
  }
  bool take_arrivals() {
    std::lock_guard lock{mutex_};
    for (auto* job : arrivals_) base::enqueue(job);
    return !std::exchange(arrivals_, {}).empty();
  }

  const std::thread::id home_ = std::this_thread::get_id();
  std::mutex mutex_;
  std::vector<caf::resumable*> arrivals_;
};

}  // namespace kiln::test
