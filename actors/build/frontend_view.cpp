#include "actors/build/frontend_view.hpp"

#include "actors/build/build_result.hpp"
#include "messages/rpc_status.hpp"
#include "messages/told_code.hpp"

namespace kiln::actors {

namespace {

/// A frontend chooses its codes itself.
error returned_error(const google::rpc::Status& told) {
  auto e = from_rpc_status(told);
  return told_as(e.code, e);
}

}  // namespace

frontend_view_impl::behavior_type frontend_view(frontend_view_impl::stateful_pointer<actor_state> self,
                                                frontend_view_options options) {
  const auto& o = self->state.hold<frontend_view_options>("frontend", std::move(options));
  return {
      [self, &o](container_inputs& wanted) { return self->delegate(o.build, std::move(wanted)); },
      [self, &o](gw::PingRequest& r) { return self->delegate(o.build, std::move(r)); },
      [self, &o](gw::SolveRequest& r) -> caf::result<gw::SolveResponse> {
        if (!r.final()) return self->delegate(o.build, o.scope, std::move(r));
        auto promise = self->make_response_promise<gw::SolveResponse>();
        self->request(o.build, caf::infinite, o.scope, r)
            .then(
                [promise, &o, attributes = r.exporterattr()](gw::SolveResponse& solved) mutable {
                  auto whole = final_result(attributes, solved);
                  if (!whole.ok()) return void(promise.deliver(to_caf(std::move(whole).error())));
                  o.returned->set(*std::move(whole));
                  promise.deliver(std::move(solved));
                },
                [promise](caf::error& e) mutable { promise.deliver(std::move(e)); });
        return promise;
      },
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
        bool first = r.has_error() ? o.returned->set(returned_error(r.error()))
                                   : o.returned->set(std::move(*r.mutable_result()));
        if (!first) return to_caf(make_error(errc::unknown, "gateway result is already set"));
        return gw::ReturnResponse{};
      },
      [self, &o](cancel_atom) {
        o.returned->set(make_error(errc::cancelled, "context canceled"));
        self->quit();
      },
  };
}

}  // namespace kiln::actors
