#include "gateway/supervised_server.hpp"

#include <utility>

#include "actors/ending.hpp"
#include "actors/handles.hpp"

namespace kiln::gateway {

namespace {

struct gateway_state {
  actors::ending end;
  std::unique_ptr<server> running;  // null when it did not start
};

gateway_actor::behavior_type gateway(gateway_actor::stateful_pointer<actors::actor_state> self,
                                     const std::shared_ptr<listeners>& on, const services& s) {
  auto& state = self->state.hold<gateway_state>("gateway");
  state.end.watch(self, "the gateway");
  if (auto started = server::start(on, s); started.ok()) {
    state.running = *std::move(started);
  } else {
    self->quit(to_caf(std::move(started).error()));
  }
  return {
      [&state](drain_atom, std::uint32_t ms) {
        return !state.running || state.running->drain(std::chrono::milliseconds{ms});
      },
      [&state](done_atom) {
        if (state.running) state.running->shutdown();
        return true;
      },
  };
}

}  // namespace

caf::actor spawn_gateway(caf::actor_system& system, std::shared_ptr<listeners> on, services s) {
  return caf::actor_cast<caf::actor>(system.spawn<caf::detached>(gateway, std::move(on), std::move(s)));
}

}  // namespace kiln::gateway
