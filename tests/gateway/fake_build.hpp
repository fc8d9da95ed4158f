// A build that answers Ping and ReadFile, never answers Evaluate, and refuses everything else.
#pragma once

#include <caf/all.hpp>

#include <memory>
#include <vector>

#include "messages/actor_error.hpp"
#include "messages/actor_containers.hpp"

namespace kiln::testing {

inline build_actor spawn_fake_build(caf::actor_system& system) {
  using build_impl = build_actor::extend<caf::replies_to<container_inputs>::with<container_inputs>>;
  auto build = system.spawn(
      [](build_impl::pointer self, caf::unit_t) -> build_impl::behavior_type {
        auto none = []() { return to_caf(make_error(errc::unimplemented, "not here")); };
        auto waiting = std::make_shared<std::vector<caf::typed_response_promise<gw::EvaluateResponse>>>();
        return {
            [](const gw::PingRequest&) {
              gw::PongResponse pong;
              pong.add_llbcaps()->set_id("file.base");
              return pong;
            },
            [=](const gw::SolveRequest&) -> caf::result<gw::SolveResponse> { return none(); },
            [=](const gw::ResolveImageConfigRequest&) -> caf::result<gw::ResolveImageConfigResponse> {
              return none();
            },
            [=](const gw::ResolveSourceMetaRequest&) -> caf::result<gw::ResolveSourceMetaResponse> {
              return none();
            },
            [=](const gw::ReadFileRequest& r) -> caf::result<gw::ReadFileResponse> {
              gw::ReadFileResponse response;
              response.set_data("content of " + r.filepath());
              return response;
            },
            [=](const gw::ReadDirRequest&) -> caf::result<gw::ReadDirResponse> { return none(); },
            [=](const gw::StatFileRequest&) -> caf::result<gw::StatFileResponse> { return none(); },
            [=](const gw::EvaluateRequest&) -> caf::result<gw::EvaluateResponse> {
              auto promise = self->make_response_promise<gw::EvaluateResponse>();
              waiting->push_back(promise);
              return promise;
            },
            [=](const gw::WarnRequest&) -> caf::result<gw::WarnResponse> { return none(); },
            [=](const gw::InputsRequest&) -> caf::result<gw::InputsResponse> { return none(); },
            [=](const gw::ReturnRequest&) -> caf::result<gw::ReturnResponse> { return none(); },
            [=](cancel_atom) {},
            [](container_inputs& inputs) { return inputs; },
        };
      },
      caf::unit);
  return caf::actor_cast<build_actor>(build);
}

}  // namespace kiln::testing
