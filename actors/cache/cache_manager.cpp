#include "actors/cache/cache_manager.hpp"

#include <deque>
#include <vector>

#include "actors/ending.hpp"
#include "actors/progress.hpp"
#include "messages/told_code.hpp"
#include "store/ref_store.hpp"

namespace kiln::actors {

namespace {

ctl::UsageRecord to_proto(const store::usage_record& r) {
  ctl::UsageRecord out;
  out.set_id(r.id);
  out.set_mutable_(r.is_mutable);
  out.set_inuse(r.in_use);
  out.set_size(r.size);
  set_time(*out.mutable_createdat(), r.created_at_ns);
  if (r.last_used_at_ns) set_time(*out.mutable_lastusedat(), *r.last_used_at_ns);
  out.set_usagecount(r.usage_count);
  out.set_description(r.description);
  out.set_recordtype(std::string(store::to_string(r.type)));
  out.set_shared(r.shared);
  for (const auto& p : r.parents) out.add_parents(p);
  return out;
}

struct pending_prune {
  prune_rule rule;
  prune_listener listener;
  caf::typed_response_promise<bool> promise;
};

struct manager {
  cache_manager_impl::pointer self;
  cache_manager_options o;
  job_runner jobs;
  std::deque<pending_prune> prunes;  // the first one is under way
  std::map<std::uint64_t, caf::typed_response_promise<ctl::DiskUsageResponse>> usages;
  std::uint64_t last_usage = 0;
  ending end;

  manager(cache_manager_impl::pointer s, cache_manager_options options) : self(s), o(std::move(options)) {
    end.watch(self, "the cache manager");
  }

  ~manager() {
    auto gone = to_caf(end.for_waiters(make_error(errc::unavailable, "cache manager is shutting down")));
    for (auto& p : prunes) p.promise.deliver(gone);
    for (auto& [id, promise] : usages) promise.deliver(gone);
  }

  caf::result<ctl::DiskUsageResponse> usage(ctl::DiskUsageRequest& request) {
    auto promise = self->make_response_promise<ctl::DiskUsageResponse>();
    auto id = ++last_usage;
    usages.emplace(id, promise);
    std::vector<std::string> filters(request.filter().begin(), request.filter().end());
    auto used_before = request.agelimit() > 0 ? unix_now_ns() - request.agelimit() : 0;
    jobs.run<ctl::DiskUsageResponse>(
        self, *o.io,
        [store = o.store, filters, used_before]() -> result<ctl::DiskUsageResponse> {
          KILN_TRY(auto records, store->space().disk_usage(filters));
          ctl::DiskUsageResponse out;
          for (const auto& r : records)
            if (used_before == 0 || !r.last_used_at_ns || *r.last_used_at_ns <= used_before)
              *out.add_record() = to_proto(r);
          return out;
        },
        [this, id, promise](result<ctl::DiskUsageResponse> out) mutable {
          usages.erase(id);
          if (!out.ok()) out = as_told(std::move(out).error());
          answer(promise, std::move(out));
        });
    return promise;
  }

  caf::result<bool> prune(prune_rule& rule, const prune_listener& listener) {
    auto promise = self->make_response_promise<bool>();
    prunes.push_back({std::move(rule), listener, promise});
    if (prunes.size() == 1) prune_next();
    return promise;
  }

  void prune_next() {
    const auto& p = prunes.front();
    jobs.run<bool>(
        self, *o.io,
        [store = o.store, rule = p.rule, listener = p.listener]() -> result<bool> {
          KILN_CHECK(store->space().prune(
              rule, [&](const store::usage_record& r) { caf::anon_send(listener, to_proto(r)); }));
          return true;
        },
        [this](result<bool> outcome) {
          auto done = std::move(prunes.front());
          prunes.pop_front();
          // Who is told that it is done asks no further: of a failure the answer tells.
          if (outcome.ok()) self->send(done.listener, done_atom::value);
          else outcome = as_told(std::move(outcome).error());
          answer(done.promise, std::move(outcome));
          if (!prunes.empty()) prune_next();
        });
  }

  void collect() {
    if (auto collector = o.peers.garbage_collector()) self->send(collector, collect_atom::value);
  }
};

}  // namespace

cache_manager_impl::behavior_type cache_manager(cache_manager_impl::stateful_pointer<actor_state> self,
                                                cache_manager_options options) {
  auto& state = self->state.hold<manager>("cache_manager", self, std::move(options));
  return {
      [&state](ctl::DiskUsageRequest& request) { return state.usage(request); },
      [&state](prune_rule& rule, const prune_listener& listener) { return state.prune(rule, listener); },
      [&state](collect_atom) { state.collect(); },
      [&state](job_done_atom, std::uint64_t id) { state.jobs.finish(id); },
  };
}

}  // namespace kiln::actors
