// The way from a frontend's thread into its build: blocking calls on one side, continuations on the other.
// Closing the bridge (the build ended, was cancelled, or its actor died) answers every waiting call.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include <caf/all.hpp>

#include "actors/continuation.hpp"
#include "frontends/frontend.hpp"
#include "messages/actor_interfaces.hpp"

namespace kiln::actors {

/// What a build answers; called on the build's actor, `done` is called exactly once. `scope`: who asks, see
/// exporters::request_log.
class llb_bridge_handler {
 public:
  virtual ~llb_bridge_handler() = default;
  virtual void solve(gw::SolveRequest request, int scope, continuation<gw::SolveResponse> done) = 0;
  virtual void resolve_image_config(gw::ResolveImageConfigRequest request, int scope,
                                    continuation<gw::ResolveImageConfigResponse> done) = 0;
  virtual void resolve_source_meta(gw::ResolveSourceMetaRequest request, int scope,
                                   continuation<gw::ResolveSourceMetaResponse> done) = 0;
  virtual void read_file(gw::ReadFileRequest request, continuation<gw::ReadFileResponse> done) = 0;
  virtual void read_dir(gw::ReadDirRequest request, continuation<gw::ReadDirResponse> done) = 0;
  virtual void stat_file(gw::StatFileRequest request, continuation<gw::StatFileResponse> done) = 0;
  virtual void warn(gw::WarnRequest request, continuation<gw::WarnResponse> done) = 0;
  virtual void stand_in(std::string image, std::string name, int scope, continuation<bool> done) = 0;
};

/// Shared by the build's actor and its frontends' threads. Thread-safe.
class bridge_channel {
 public:
  using call = std::function<void(llb_bridge_handler&)>;

  explicit bridge_channel(caf::actor build) : build_(std::move(build)) {}

  /// Queues a call and wakes the build; false once closed.
  bool post(call c);
  /// The build's side: runs what is queued.
  void serve(llb_bridge_handler& face);
  /// No more calls; whoever waits gets `cancelled`, frontends are told to stop.
  void close();

  std::stop_token stop_token() const { return stop_.get_token(); }
  const caf::actor& build() const { return build_; }

  template <class Reply>
  result<Reply> ask(std::function<void(llb_bridge_handler&, continuation<Reply>)> question) {
    auto slot = std::make_shared<std::optional<result<Reply>>>();
    // The answer may come after we stopped waiting: it needs the shared state, not us.
    bool posted = post([question = std::move(question), slot, state = state_](llb_bridge_handler& face) {
      question(face, [slot, state](result<Reply> reply) {
        {
          std::lock_guard lock{state->mutex};
          if (!*slot) slot->emplace(std::move(reply));
        }
        state->answered.notify_all();
      });
    });
    if (posted) {
      std::unique_lock lock{state_->mutex};
      state_->answered.wait(lock, [&] { return slot->has_value() || state_->closed; });
      if (*slot) return *std::move(*slot);
    }
    return make_error(errc::cancelled, "context canceled");
  }

 private:
  struct shared_state {
    std::mutex mutex;
    std::condition_variable answered;
    std::deque<call> calls;
    bool closed = false;
  };
  caf::actor build_;
  std::shared_ptr<shared_state> state_ = std::make_shared<shared_state>();
  std::stop_source stop_;
};

/// Tells a build to serve its channel.
using serve_atom = caf::atom_constant<caf::atom("serve")>;

/// One frontend's view of its build.
class bridge_host : public frontends::frontend_host {
 public:
  bridge_host(std::shared_ptr<bridge_channel> channel, types::WorkerRecord worker,
              std::vector<platform> platforms, std::string session, int scope)
      : channel_(std::move(channel)),
        worker_(std::move(worker)),
        platforms_(std::move(platforms)),
        session_(std::move(session)),
        scope_(scope) {}

  result<gw::SolveResponse> solve(const gw::SolveRequest& request) override;
  result<gw::ResolveImageConfigResponse> resolve_image_config(
      const gw::ResolveImageConfigRequest& request) override;
  result<gw::ResolveSourceMetaResponse> resolve_source_meta(
      const gw::ResolveSourceMetaRequest& request) override;
  result<gw::ReadFileResponse> read_file(const gw::ReadFileRequest& request) override;
  result<gw::ReadDirResponse> read_dir(const gw::ReadDirRequest& request) override;
  result<gw::StatFileResponse> stat_file(const gw::StatFileRequest& request) override;
  status warn(const gw::WarnRequest& request) override;
  result<bool> stand_in(const std::string& image, const std::string& name) override;

  std::vector<platform> platforms() const override { return platforms_; }
  const types::WorkerRecord& worker() const override { return worker_; }
  const std::string& session_id() const override { return session_; }
  std::stop_token stop_token() const override { return channel_->stop_token(); }

  /// For frontends that run elsewhere: the build itself, and who they are to it.
  const std::shared_ptr<bridge_channel>& channel() const { return channel_; }
  int scope() const { return scope_; }

 private:
  std::shared_ptr<bridge_channel> channel_;
  types::WorkerRecord worker_;
  std::vector<platform> platforms_;
  std::string session_;
  int scope_;
};

}  // namespace kiln::actors
