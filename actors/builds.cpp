#include "actors/builds.hpp"

#include <map>
#include <vector>

#include "actors/ending.hpp"
#include "configs/solving.hpp"

namespace kiln::actors {

namespace {

struct running {
  caf::actor handle;
  caf::strong_actor_ptr requester;
  caf::typed_response_promise<ctl::SolveResponse> promise;
  bool finished = false;
};

struct waiting_find {
  std::string ref;
  caf::typed_response_promise<build_actor> promise;
};

struct waiting_watch {
  std::string ref;
  status_listener listener;
  caf::typed_response_promise<bool> promise;
};

struct builds_state {
  builds_impl::pointer self;
  builds_options o;
  std::map<std::string, running> active;  // and those that ended a moment ago
  std::map<std::uint64_t, waiting_find> finds;
  std::map<std::uint64_t, waiting_watch> watches;
  std::uint64_t last_wait = 0;
  ending end;

  builds_state(builds_impl::pointer s, builds_options options) : self(s), o(std::move(options)) {
    end.watch(self, "the actor of all builds");
  }

  ~builds_state() {
    auto gone = end.for_waiters(make_error(errc::unavailable, "builds is shutting down"));
    auto reason = end.for_dependants();
    // Our supervisor stops us when the graph has died: that is what ends the builds then.
    if (auto fate = o.build.peers.registry->fate(peers::build_graph_name); end.asked() && !fate.empty()) {
      gone = make_error(errc::internal, "the build graph died: " + fate);
      reason = to_caf(gone);
    }
    for (auto& [id, w] : finds) w.promise.deliver(to_caf(gone));
    for (auto& [id, w] : watches) w.promise.deliver(to_caf(gone));
    for (auto& [ref, b] : active) {
      if (!b.finished) b.promise.deliver(to_caf(gone));
      send_exit(b.handle, reason);
    }
  }

  static error no_job(const std::string& ref) { return make_error(errc::not_found, "no such job " + ref); }

  caf::result<ctl::SolveResponse> solve(ctl::SolveRequest& request) {
    auto ref = request.ref();
    if (ref.empty()) return to_caf(make_error(errc::invalid_argument, "build ref is missing"));
    if (active.contains(ref)) return to_caf(make_error(errc::already_exists, "job ID " + ref + " exists"));
    auto requester = self->current_sender();  // the promise takes it
    auto promise = self->make_response_promise<ctl::SolveResponse>();
    auto options = o.build;
    options.request = std::move(request);
    auto handle = self->spawn(build, std::move(options));
    active[ref] = {caf::actor_cast<caf::actor>(handle), requester, promise, false};
    if (requester) self->monitor(caf::actor_cast<caf::actor>(requester));
    self->monitor(handle);
    self->request(handle, caf::infinite, start_atom::value)
        .then(
            [this, ref, promise](ctl::SolveResponse& response) mutable {
              finished(ref);
              promise.deliver(std::move(response));
            },
            [this, ref, promise](caf::error& e) mutable {
              finished(ref);
              promise.deliver(to_caf(from_caf(e)));
            });
    appeared(ref);
    return promise;
  }

  /// The build answered: it stays to be watched, and then goes.
  void finished(const std::string& ref) {
    if (auto found = active.find(ref); found != active.end()) {
      found->second.finished = true;
      found->second.requester = nullptr;
    }
    self->delayed_send(self, configs::solving::finished_visible, forget_atom::value, ref);
    if (auto cache = o.build.peers.cache_manager()) self->send(cache, collect_atom::value);
  }

  void forget(const std::string& ref) {
    auto found = active.find(ref);
    if (found == active.end() || !found->second.finished) return;
    self->send_exit(found->second.handle, caf::exit_reason::user_shutdown);
    active.erase(found);
  }

  void appeared(const std::string& ref) {
    auto& b = active.at(ref);
    for (auto at = finds.begin(); at != finds.end();) {
      if (at->second.ref != ref) {
        ++at;
        continue;
      }
      at->second.promise.deliver(caf::actor_cast<build_actor>(b.handle));
      at = finds.erase(at);
    }
    for (auto at = watches.begin(); at != watches.end();) {
      if (at->second.ref != ref) {
        ++at;
        continue;
      }
      self->send(caf::actor_cast<build_impl>(b.handle), watch_atom::value, at->second.listener);
      at->second.promise.deliver(true);
      at = watches.erase(at);
    }
  }

  caf::result<build_actor> find(const std::string& ref) {
    if (auto found = active.find(ref); found != active.end()) {
      // A build that ended has nothing left to be asked.
      if (found->second.finished) return to_caf(no_job(ref));
      return caf::actor_cast<build_actor>(found->second.handle);
    }
    auto promise = self->make_response_promise<build_actor>();
    finds[++last_wait] = {ref, promise};
    self->delayed_send(self, configs::solving::find_wait, give_up_atom::value, last_wait);
    return promise;
  }

  caf::result<bool> watch(const std::string& ref, const status_listener& listener) {
    if (auto found = active.find(ref); found != active.end()) {
      self->send(caf::actor_cast<build_impl>(found->second.handle), watch_atom::value, listener);
      return true;
    }
    auto promise = self->make_response_promise<bool>();
    auto history = o.build.peers.history();
    if (!history) {
      wait_to_watch(ref, listener, promise);
      return promise;
    }
    self->request(history, caf::infinite, replay_atom::value, ref, listener)
        .then(
            [this, ref, listener, promise](bool replayed) mutable {
              if (replayed) {
                promise.deliver(true);
              } else {
                wait_to_watch(ref, listener, promise);
              }
            },
            [this, ref, listener, promise](caf::error&) mutable { wait_to_watch(ref, listener, promise); });
    return promise;
  }

  void wait_to_watch(const std::string& ref, const status_listener& listener,
                     caf::typed_response_promise<bool> promise) {
    watches[++last_wait] = {ref, listener, promise};
    self->delayed_send(self, configs::solving::watch_wait, give_up_atom::value, last_wait);
    // It may have come while the history was asked.
    if (active.contains(ref)) appeared(ref);
  }

  void timed_out(std::uint64_t id) {
    if (auto at = finds.find(id); at != finds.end()) {
      at->second.promise.deliver(to_caf(no_job(at->second.ref)));
      finds.erase(at);
    }
    if (auto at = watches.find(id); at != watches.end()) {
      at->second.promise.deliver(to_caf(no_job(at->second.ref)));
      watches.erase(at);
    }
  }

  void cancel(const std::string& ref) {
    if (auto found = active.find(ref); found != active.end() && !found->second.finished)
      self->send(caf::actor_cast<build_impl>(found->second.handle), cancel_atom::value);
  }

  void down(const caf::actor_addr& who) {
    for (auto at = active.begin(); at != active.end();) {
      auto& b = at->second;
      if (b.handle.address() == who) {
        at = active.erase(at);
        continue;
      }
      if (!b.finished && b.requester && caf::actor_cast<caf::actor_addr>(b.requester) == who)
        self->send(caf::actor_cast<build_impl>(b.handle), cancel_atom::value);
      ++at;
    }
  }
};

}  // namespace

builds_impl::behavior_type builds(builds_impl::stateful_pointer<actor_state> self, builds_options options) {
  auto& state = self->state.hold<builds_state>("builds", self, std::move(options));
  self->set_down_handler([&state](caf::down_msg& m) { state.down(m.source); });
  return {
      [&state](solve_atom, ctl::SolveRequest& request) { return state.solve(request); },
      [&state](find_atom, const std::string& ref) { return state.find(ref); },
      [&state](watch_atom, const std::string& ref, const status_listener& listener) {
        return state.watch(ref, listener);
      },
      [&state](cancel_atom, const std::string& ref) { state.cancel(ref); },
      [&state](forget_atom, const std::string& ref) { state.forget(ref); },
      [&state](give_up_atom, std::uint64_t id) { state.timed_out(id); },
  };
}

}  // namespace kiln::actors
