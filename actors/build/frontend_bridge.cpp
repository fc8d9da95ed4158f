#include "actors/build/frontend_bridge.hpp"

#include <utility>

namespace kiln::actors {

bool bridge_channel::post(call c) {
  {
    std::lock_guard lock{state_->mutex};
    if (state_->closed) return false;
    state_->calls.push_back(std::move(c));
  }
  caf::anon_send(build_, serve_atom::value);
  return true;
}

void bridge_channel::serve(llb_bridge_handler& face) {
  for (;;) {
    call next;
    {
      std::lock_guard lock{state_->mutex};
      if (state_->calls.empty()) return;
      next = std::move(state_->calls.front());
      state_->calls.pop_front();
    }
    next(face);
  }
}

void bridge_channel::close() {
  stop_.request_stop();
  std::deque<call> dropped;
  {
    std::lock_guard lock{state_->mutex};
    state_->closed = true;
    dropped.swap(state_->calls);
  }
  state_->answered.notify_all();
}

result<gw::SolveResponse> bridge_host::solve(const gw::SolveRequest& r) {
  return channel_->ask<gw::SolveResponse>(
      [r, scope = scope_](llb_bridge_handler& f, auto done) { f.solve(r, scope, std::move(done)); });
}

result<gw::ResolveImageConfigResponse> bridge_host::resolve_image_config(
    const gw::ResolveImageConfigRequest& r) {
  return channel_->ask<gw::ResolveImageConfigResponse>([r, scope = scope_](llb_bridge_handler& f, auto done) {
    f.resolve_image_config(r, scope, std::move(done));
  });
}

result<gw::ResolveSourceMetaResponse> bridge_host::resolve_source_meta(
    const gw::ResolveSourceMetaRequest& r) {
  return channel_->ask<gw::ResolveSourceMetaResponse>([r, scope = scope_](llb_bridge_handler& f, auto done) {
    f.resolve_source_meta(r, scope, std::move(done));
  });
}

result<gw::ReadFileResponse> bridge_host::read_file(const gw::ReadFileRequest& r) {
  return channel_->ask<gw::ReadFileResponse>(
      [r](llb_bridge_handler& f, auto done) { f.read_file(r, std::move(done)); });
}

result<gw::ReadDirResponse> bridge_host::read_dir(const gw::ReadDirRequest& r) {
  return channel_->ask<gw::ReadDirResponse>(
      [r](llb_bridge_handler& f, auto done) { f.read_dir(r, std::move(done)); });
}

result<gw::StatFileResponse> bridge_host::stat_file(const gw::StatFileRequest& r) {
  return channel_->ask<gw::StatFileResponse>(
      [r](llb_bridge_handler& f, auto done) { f.stat_file(r, std::move(done)); });
}

status bridge_host::warn(const gw::WarnRequest& r) {
  auto reply =
      channel_->ask<gw::WarnResponse>([r](llb_bridge_handler& f, auto done) { f.warn(r, std::move(done)); });
  if (!reply.ok()) return std::move(reply).error();
  return {};
}

result<bool> bridge_host::stand_in(const std::string& image, const std::string& name) {
  return channel_->ask<bool>([image, name, scope = scope_](llb_bridge_handler& f, auto done) {
    f.stand_in(image, name, scope, std::move(done));
  });
}

}  // namespace kiln::actors
