#include "actors/build/frontend_view.hpp"

#include "messages/rpc_status.hpp"

namespace kiln::actors {

frontend_view_impl::behavior_type frontend_view(frontend_view_impl::stateful_pointer<actor_state> self,
                                                frontend_view_options options) {
  const auto& o = self->state.hold<frontend_view_options>("frontend", std::move(options));
  return {
      [self, &o](container_inputs& wanted) { return self->delegate(o.build, std::move(wanted)); },
      [self, &o](gw::PingRequest& r) { return self->delegate(o.build, std::move(r)); },
      [self, &o](gw::SolveRequest& r) { return self->delegate(o.build, o.scope, std::move(r)); },
      [self, &o](gw::ResolveImageConfigRequest& r) { return self->delegate(o.build, o.scope, std::move(r)); },
      [self, &o](gw::ResolveSourceMetaRequest& r) { return self->delegate(o.build, o.scope, std::move(r)); },
      [self, &o](gw::ReadFileRequest& r) { return self->delegate(o.build, std::move(r)); },
      [self, &o](gw::ReadDirRequest& r) { return self->delegate(o.build, std::move(r)); },
      [self, &o](gw::StatFileRequest& r) { return self->delegate(o.build, std::move(r)); },
      [self, &o](gw::EvaluateRequest& r) { return self->delegate(o.build, std::move(r)); },
      [self, &o](gw::WarnRequest& r) { return self->delegate(o.build, std::move(r)); },
      [&o](gw::InputsRequest&) {
        gw::InputsResponse out;
        for (const auto& [name, definition] : o.inputs) (*out.mutable_definitions())[name] = definition;
        return out;
      },
      [&o](gw::ReturnRequest& r) -> caf::result<gw::ReturnResponse> {
        bool first = r.has_error() ? o.returned->set(from_rpc_status(r.error()))
                                   : o.returned->set(std::move(*r.mutable_result()));
        if (!first) return to_caf(make_error(errc::already_exists, "gateway result is already set"));
        return gw::ReturnResponse{};
      },
      [self, &o](cancel_atom) {
        o.returned->set(make_error(errc::cancelled, "context canceled"));
        self->quit();
      },
  };
}

}  // namespace kiln::actors
