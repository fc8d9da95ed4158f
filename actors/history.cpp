#include "actors/history.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <vector>

#include <spdlog/spdlog.h>

#include "actors/build_log.hpp"
#include "actors/history_filter.hpp"
#include "actors/history_trace.hpp"
#include "actors/progress.hpp"
#include "rpc_status.pb.h"
#include "store/ref_store.hpp"

namespace kiln::actors {

namespace {

constexpr const char* bucket = "history";

/// What is kept for a record and goes with it.
std::set<std::string> blobs_of(const ctl::BuildHistoryRecord& record) {
  std::set<std::string> out{record.logs().digest(), record.externalerror().digest(), record.trace().digest()};
  for (const auto& a : record.result().attestations()) out.insert(a.digest());
  for (const auto& [part, info] : record.results())
    for (const auto& a : info.attestations()) out.insert(a.digest());
  out.erase("");
  return out;
}

std::int64_t ns_of(const google::protobuf::Timestamp& t) { return t.seconds() * 1'000'000'000 + t.nanos(); }

struct listening {
  history_listener handle;
  std::string ref;  // empty: all
  bool active_only = false;
  history_predicate wanted;
};

struct history_state {
  history_impl::pointer self;
  history_options o;
  job_runner jobs;
  std::map<std::string, ctl::BuildHistoryRecord> active;
  std::map<std::string, ctl::BuildHistoryRecord> finished;
  std::map<caf::actor_addr, listening> listeners;
  std::deque<std::pair<std::function<status()>, std::function<void(status)>>> writes;  // the first is under way
  std::map<std::uint64_t, caf::typed_response_promise<bool>> replays;
  std::uint64_t last_replay = 0;
  std::vector<caf::typed_response_promise<ctl::UpdateBuildHistoryResponse>> updates;

  history_state(history_impl::pointer s, history_options options) : self(s), o(std::move(options)) {
    for (const auto& [ref, bytes] : o.store->values(bucket)) {
      ctl::BuildHistoryRecord record;
      if (record.ParseFromString(bytes)) finished[ref] = std::move(record);
    }
    clean_up();
  }

  ~history_state() {
    auto gone = to_caf(make_error(errc::unavailable, "history is shutting down"));
    for (auto& [id, p] : replays) p.deliver(gone);
    for (auto& p : updates) p.deliver(gone);
    for (auto& [address, l] : listeners) caf::anon_send(l.handle, done_atom::value);
  }

  /// Writes to the store one after the other, so that they land in order.
  void write(std::function<status()> work, std::function<void(status)> then) {
    writes.emplace_back(std::move(work), std::move(then));
    if (writes.size() == 1) write_next();
  }

  void write_next() {
    jobs.run<bool>(
        self, *o.io,
        [work = writes.front().first]() -> result<bool> {
          KILN_CHECK(work());
          return true;
        },
        [this](result<bool> outcome) {
          auto then = std::move(writes.front().second);
          writes.pop_front();
          then(outcome.ok() ? status{} : status(std::move(outcome).error()));
          if (!writes.empty()) write_next();
        });
  }

  void save(const ctl::BuildHistoryRecord& record, std::function<void(status)> then) {
    write([store = o.store, ref = record.ref(), bytes = record.SerializeAsString()] {
      return store->set_value(bucket, ref, bytes);
    }, std::move(then));
  }

  static ctl::BuildHistoryEvent event_of(ctl::BuildHistoryEventType type, const ctl::BuildHistoryRecord& record) {
    ctl::BuildHistoryEvent out;
    out.set_type(type);
    *out.mutable_record() = record;
    return out;
  }

  void publish(const ctl::BuildHistoryEvent& event) {
    for (auto& [address, l] : listeners) {
      if (!l.ref.empty() && l.ref != event.record().ref()) continue;
      if (event.type() != ctl::DELETED && !l.wanted(event.record())) continue;
      self->send(l.handle, event);
    }
  }

  void take(ctl::BuildHistoryEvent& event) {
    const auto& record = event.record();
    if (record.ref().empty()) return;
    if (event.type() == ctl::STARTED) {
      active[record.ref()] = record;
      return publish(event);
    }
    active.erase(record.ref());
    finished[record.ref()] = record;
    save(record, [ref = record.ref()](status s) {
      if (!s.ok()) spdlog::warn("history record of build {} not saved: {}", ref, s.error().message);
    });
    publish(event);
    clean_up();
  }

  caf::result<bool> listen(ctl::BuildHistoryRequest& request, const history_listener& who) {
    if (request.limit() < 0)
      return to_caf(make_error(errc::invalid_argument, "invalid limit " + std::to_string(request.limit())));
    auto wanted = parse_history_filters({request.filter().begin(), request.filter().end()}, unix_now_ns());
    if (!wanted.ok()) return to_caf(wanted.error());
    std::vector<ctl::BuildHistoryEvent> events;
    auto add = [&](ctl::BuildHistoryEventType type, const ctl::BuildHistoryRecord& record) {
      if (!request.ref().empty() && record.ref() != request.ref()) return;
      if ((*wanted)(record)) events.push_back(event_of(type, record));
    };
    if (!request.activeonly())
      for (const auto& [ref, record] : finished) add(ctl::COMPLETE, record);
    for (const auto& [ref, record] : active) add(ctl::STARTED, record);
    bool newest_first = request.limit() > 0;
    std::stable_sort(events.begin(), events.end(), [&](const auto& a, const auto& b) {
      auto at = ns_of(a.record().createdat()), bt = ns_of(b.record().createdat());
      return newest_first ? at > bt : at < bt;
    });
    if (newest_first && events.size() > static_cast<std::size_t>(request.limit()))
      events.resize(static_cast<std::size_t>(request.limit()));
    for (auto& e : events) self->send(who, std::move(e));
    if (request.earlyexit()) {
      self->send(who, done_atom::value);
      return true;
    }
    listeners[who.address()] = {who, request.ref(), request.activeonly(), *std::move(wanted)};
    self->monitor(who);
    return true;
  }

  caf::result<ctl::UpdateBuildHistoryResponse> update(ctl::UpdateBuildHistoryRequest& request) {
    auto found = finished.find(request.ref());
    if (found == finished.end()) {
      if (request.delete_() && active.contains(request.ref()))
        return to_caf(make_error(errc::failed_precondition, "build " + request.ref() + " is running"));
      return to_caf(make_error(errc::not_found, "failed to retrieve record for ref \"" + request.ref() + "\": not found"));
    }
    auto promise = self->make_response_promise<ctl::UpdateBuildHistoryResponse>();
    auto then = [promise](status s) mutable {
      if (s.ok()) {
        promise.deliver(ctl::UpdateBuildHistoryResponse{});
      } else {
        promise.deliver(to_caf(std::move(s).error()));
      }
    };
    if (request.delete_()) {
      remove(request.ref(), then);
    } else if (request.finalize()) {
      finalize(found->second, then);
    } else {
      found->second.set_pinned(request.pinned());
      changed(found->second, then);
    }
    return promise;
  }

  void changed(ctl::BuildHistoryRecord& record, std::function<void(status)> then) {
    record.set_generation(record.generation() + 1);
    publish(event_of(ctl::COMPLETE, record));
    save(record, std::move(then));
  }

  /// Makes the trace, which few ask for, of the log that is kept anyway.
  void finalize(const ctl::BuildHistoryRecord& record, std::function<void(status)> then) {
    auto log = digest::parse(record.logs().digest());
    if (record.has_trace() || !log.ok()) return then({});
    jobs.run<ctl::Descriptor>(
        self, *o.io,
        [store = o.store, record, log = *log]() -> result<ctl::Descriptor> {
          KILN_TRY(auto bytes, store->blobs().read_all(log, configs::solving::history_log_bytes_max));
          ctl::Descriptor out;
          out.set_media_type(trace_media_type);
          KILN_CHECK(keep_document(*store, record.ref(), trace_of(record, build_log::decode(bytes)), out));
          return out;
        },
        [this, ref = record.ref(), then](result<ctl::Descriptor> trace) {
          if (!trace.ok()) return then(std::move(trace).error().with_context("trace of build " + ref));
          auto found = finished.find(ref);
          if (found == finished.end())  // deleted meanwhile
            return write([store = o.store, blob = digest::trusted(trace->digest())] { return store->blobs().remove(blob); },
                         then);
          *found->second.mutable_trace() = *std::move(trace);
          changed(found->second, then);
        });
  }

  void remove(const std::string& ref, std::function<void(status)> then) {
    auto found = finished.find(ref);
    if (found == finished.end()) return then({});
    auto record = std::move(found->second);
    finished.erase(found);
    auto blobs = blobs_of(record);
    for (const auto& [other, its] : finished)
      for (const auto& shared : blobs_of(its)) blobs.erase(shared);
    write(
        [store = o.store, ref, blobs = std::move(blobs)]() -> status {
          KILN_CHECK(store->erase_value(bucket, ref));
          for (const auto& blob : blobs)
            if (auto d = digest::parse(blob); d.ok() && store->blobs().has(*d)) KILN_CHECK(store->blobs().remove(*d));
          return {};
        },
        std::move(then));
    publish(event_of(ctl::DELETED, record));
  }

  void clean_up() {
    std::vector<ctl::BuildHistoryRecord> all;
    for (const auto& [ref, record] : finished) all.push_back(record);
    for (const auto& ref : expired_records(all, o.entries_max, o.age_max_ns, unix_now_ns()))
      remove(ref, [ref](status s) {
        if (!s.ok()) spdlog::warn("history record of build {} not removed: {}", ref, s.error().message);
      });
  }

  caf::result<bool> replay(const std::string& ref, const status_listener& who) {
    auto found = finished.find(ref);
    if (found == finished.end()) return false;
    auto log = digest::parse(found->second.logs().digest());
    if (!log.ok()) return false;
    auto promise = self->make_response_promise<bool>();
    auto id = ++last_replay;
    replays.emplace(id, promise);
    jobs.run<bool>(
        self, *o.io,
        [store = o.store, log = *log, who]() -> result<bool> {
          KILN_TRY(auto bytes, store->blobs().read_all(log, configs::solving::history_log_bytes_max));
          for (auto& s : build_log::decode(bytes)) caf::anon_send(who, std::move(s));
          caf::anon_send(who, done_atom::value);
          return true;
        },
        [this, id, promise](result<bool> outcome) mutable {
          replays.erase(id);
          // A log that is gone is no log.
          promise.deliver(outcome.ok());
        });
    return promise;
  }
};

}  // namespace

status keep_document(store::ref_store& store, const std::string& ref, std::string_view bytes, ctl::Descriptor& out) {
  KILN_TRY(auto blob, store.blobs().put(bytes));
  // Not a record's blob: the label keeps `prune --all` from taking it.
  KILN_CHECK(store.blobs().set_labels(blob, {{"kiln.keep.history", ref}}));
  out.set_digest(blob.str());
  out.set_size(static_cast<std::int64_t>(bytes.size()));
  return {};
}

std::vector<std::string> expired_records(const std::vector<ctl::BuildHistoryRecord>& records, int entries_max,
                                         std::int64_t age_max_ns, std::int64_t now_ns) {
  std::vector<const ctl::BuildHistoryRecord*> unpinned;
  for (const auto& r : records)
    if (!r.pinned()) unpinned.push_back(&r);
  std::sort(unpinned.begin(), unpinned.end(),
            [](const auto* a, const auto* b) { return ns_of(a->createdat()) > ns_of(b->createdat()); });
  std::vector<std::string> out;
  for (std::size_t i = static_cast<std::size_t>(std::max(0, entries_max)); i < unpinned.size(); ++i)
    if (now_ns - ns_of(unpinned[i]->completedat()) > age_max_ns) out.push_back(unpinned[i]->ref());
  return out;
}

history_impl::behavior_type history(history_impl::stateful_pointer<actor_state> self, history_options options) {
  auto& state = self->state.hold<history_state>("history", self, std::move(options));
  self->set_down_handler([&state](caf::down_msg& m) { state.listeners.erase(m.source); });
  return {
      [&state](ctl::BuildHistoryRequest& request, const history_listener& who) { return state.listen(request, who); },
      [&state](ctl::UpdateBuildHistoryRequest& request) { return state.update(request); },
      [&state](ctl::BuildHistoryEvent& event) { state.take(event); },
      [&state](replay_atom, const std::string& ref, const status_listener& who) { return state.replay(ref, who); },
      [&state](tick_atom, std::uint64_t id) { state.jobs.finish(id); },
  };
}

}  // namespace kiln::actors
