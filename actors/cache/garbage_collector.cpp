#include "actors/cache/garbage_collector.hpp"

#include <optional>

#include <spdlog/spdlog.h>

#include "configs/solving.hpp"

namespace kiln::actors {

namespace {

using namespace configs::solving;

struct collector {
  garbage_collector_impl::pointer self;
  garbage_collector_options o;
  std::optional<caf::actor_clock::time_point> last;
  bool planned = false;
  bool running = false;
  std::int64_t freed_bytes = 0;
  std::int64_t freed_records = 0;

  collector(garbage_collector_impl::pointer s, garbage_collector_options options)
      : self(s), o(std::move(options)) {}

  void plan(std::chrono::milliseconds delay) {
    if (planned || o.policy.empty()) return;
    planned = true;
    self->delayed_send(self, delay, due_atom::value);
  }

  void collect() {
    auto now = self->clock().now();
    if (last && now - *last < gc_interval) {
      auto rest = std::chrono::ceil<std::chrono::milliseconds>(gc_interval - (now - *last));
      return plan(std::max<std::chrono::milliseconds>(rest, gc_after_build_delay));
    }
    plan(gc_after_build_delay);
  }

  void begin() {
    planned = false;
    if (running) return;
    last = self->clock().now();
    running = true;
    freed_bytes = freed_records = 0;
    run_rule(0);
  }

  void run_rule(std::size_t rule) {
    auto manager = o.peers.cache_manager();
    if (rule == o.policy.size() || !manager) {
      running = false;
      if (freed_records > 0)
        spdlog::info("garbage collection freed {} records, {} bytes", freed_records, freed_bytes);
      return;
    }
    self->request(manager, caf::infinite, o.policy[rule], handle_of<prune_listener>(self))
        .then([this, rule](bool) { run_rule(rule + 1); },
              [this, rule](caf::error& e) {
                spdlog::warn("garbage collection rule {}: {}", rule + 1, from_caf(e).message);
                run_rule(rule + 1);
              });
  }
};

}  // namespace

garbage_collector_impl::behavior_type garbage_collector(
    garbage_collector_impl::stateful_pointer<actor_state> self, garbage_collector_options options) {
  auto& state = self->state.hold<collector>("garbage_collector", self, std::move(options));
  state.plan(gc_start_delay);
  return {
      [&state](collect_atom) { state.collect(); },
      [&state](due_atom) { state.begin(); },
      [&state](ctl::UsageRecord& r) {
        ++state.freed_records;
        state.freed_bytes += r.size();
      },
      [](done_atom) {},
  };
}

}  // namespace kiln::actors
