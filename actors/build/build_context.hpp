// What the parts of a build share: its request, its log, who is there to ask, whether it is over. The build's
// actor has it and outlives its parts; used on that actor only.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "actors/build/build.hpp"
#include "actors/build/build_log.hpp"
#include "actors/build/build_tasks.hpp"
#include "actors/build/frontend_bridge.hpp"
#include "base/source_location.hpp"
#include "solver/entitlements.hpp"
#include "solver/graph.hpp"
#include "solver/source_policy.hpp"

namespace kiln::actors {

/// Of what names a cache in a request, whichever message it is.
template <class Entry>
cache_entry cache_entry_of(const Entry& e) {
  return {e.type(), {e.attrs().begin(), e.attrs().end()}};
}

struct build_context {
  build_context(build_impl::pointer actor, build_options o)
      : self(actor),
        options(std::move(o)),
        channel(std::make_shared<bridge_channel>(handle_of<caf::actor>(actor))) {}
  build_context(const build_context&) = delete;
  build_context& operator=(const build_context&) = delete;

  build_impl::pointer self;
  build_options options;
  job_runner jobs;
  build_log log;
  build_tasks tasks{log, options.request.ref(), options.request.session()};
  build_attestations attestations{options.provenance};
  std::shared_ptr<bridge_channel> channel;

  // Known once the request is checked.
  solver::entitlements granted;
  types::WorkerRecord worker_record;
  std::vector<solver::device> devices;  // those there were when the build began
  std::vector<platform> platforms;      // the worker's, default first

  bool over = false;  // what comes in later is of no interest
  /// Ends the build unless it is over.
  std::function<void(error, source_location)> failed;
  void fail(error why, source_location where = source_location::current()) const {
    failed(std::move(why), where);
  }

  const ctl::SolveRequest& request() const { return options.request; }
  status refuse_late() const {
    if (over) return make_error(errc::failed_precondition, "the build has ended");
    return {};
  }
  /// unavailable while that actor is down.
  result<worker_actor> worker() const { return there(options.peers.worker(), peers::worker_name); }
  result<build_graph_actor> build_graph() const {
    return there(options.peers.build_graph(), peers::build_graph_name);
  }

  /// Where steps and exports of this build report to, and by which they know it.
  progress_actor progress() const { return handle_of<progress_actor>(self); }
  session_group sessions() const {
    session_group out;
    if (!request().session().empty()) out.ids.push_back(request().session());
    return out;
  }
  /// How its steps reach the network, with these policies.
  proxy_rules proxy(const std::vector<solver::source_policy>& policies) const {
    proxy_rules out;
    out.on = request().proxynetwork() || options.proxy_network;
    if (!out.on) return out;
    for (const auto& policy : policies) out.policies.push_back(policy.SerializeAsString());
    out.policy_session = request().sourcepolicysession();
    return out;
  }
  platform default_platform() const { return platforms.empty() ? host_platform() : platforms.front(); }

 private:
  template <class Handle>
  static result<Handle> there(Handle handle, const char* name) {
    if (!handle) return from_caf(peer_down(name));
    return handle;
  }
};

}  // namespace kiln::actors
