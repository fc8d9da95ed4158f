#include "actors/history/history.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include <spdlog/spdlog.h>

#include "actors/build/build_log.hpp"
#include "actors/ending.hpp"
#include "actors/history/history_filter.hpp"
#include "actors/history/history_trace.hpp"
#include "actors/progress.hpp"
#include "configs/history.hpp"
#include "messages/told_code.hpp"
#include "rpc_status.pb.h"
#include "store/ref_store.hpp"

namespace kiln::actors {

namespace {

namespace cfg = configs::history;

constexpr const char* bucket = "history";
constexpr const char* keep_label = "kiln.keep.history";  // of a document: the build that stored it last

std::int64_t ns_of(const google::protobuf::Timestamp& t) { return t.seconds() * 1'000'000'000 + t.nanos(); }

/// Removes a document that no record had any more when its removal was decided, and returns nothing; or whose
/// it is, if that is none of `owners`: a build may have stored it again since, and tell of it next.
result<std::optional<std::string>> drop_document(store::ref_store& store, const std::string& document,
                                                 const std::vector<std::string>& owners) {
  std::optional<std::string> whose;
  auto d = digest::parse(document);
  if (!d.ok()) return whose;
  auto gone = store.blobs().remove_unneeded(*d, [&](const store::blob_info& info) -> result<bool> {
    auto owner = info.labels.find(keep_label);
    if (owner != info.labels.end() && std::find(owners.begin(), owners.end(), owner->second) == owners.end())
      whose = owner->second;
    return !whose;
  });
  if (!gone.ok()) return std::move(gone).error();
  // An export that made the same document still needs it: nobody's now, it goes with a prune.
  if (!*gone && !whose)
    for (const auto& owner : owners) KILN_CHECK(store.blobs().drop_label(*d, keep_label, owner));
  return whose;
}

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
  std::shared_ptr<history_index> finished;
  std::deque<std::string> deleted;                       // refs of the last records that went
  std::optional<caf::actor_clock::time_point> sweep_at;  // the next look; an earlier one may be asked for
  std::map<caf::actor_addr, listening> listeners;
  std::deque<std::pair<std::function<status()>, std::function<void(status)>>>
      writes;  // the first is under way
  std::map<std::uint64_t, caf::typed_response_promise<bool>> replays;
  std::uint64_t last_replay = 0;
  ending end;
  /// What was asked before the records had been read, and how it is refused.
  struct early_question {
    std::function<void()> ask;
    std::function<void(const caf::error&)> refuse;
  };
  std::optional<std::vector<early_question>> early{std::in_place};  // nothing once they have

  history_state(history_impl::pointer s, history_options options)
      : self(s),
        o(std::move(options)),
        finished(o.index ? o.index : std::make_shared<history_index>(o.bounds)) {
    end.watch(self, "the history");
    using records = std::vector<ctl::BuildHistoryRecord>;
    jobs.run<records>(
        self, *o.io,
        [store = o.store]() -> result<records> {
          records all;
          for (const auto& [ref, bytes] : store->values().all(bucket))
            if (ctl::BuildHistoryRecord record; record.ParseFromString(bytes))
              all.push_back(std::move(record));
          return all;
        },
        [this](result<records> all) {
          if (!all.ok()) spdlog::warn("the history was not read: {}", all.error().message);
          if (all.ok())
            for (auto& record : *all) finished->put(std::move(record));
          wait_to_sweep();
          auto waited = std::move(*early);
          early.reset();
          for (auto& question : waited) question.ask();
        });
  }

  /// What `answer` makes of a promise, once the records have been read. In order.
  template <class T>
  caf::result<T> when_read(std::function<void(caf::typed_response_promise<T>)> answer) {
    auto promise = self->make_response_promise<T>();
    if (early) {
      early->push_back({[promise, answer = std::move(answer)] { answer(promise); },
                        [promise](const caf::error& e) mutable { promise.deliver(e); }});
    } else {
      answer(promise);
    }
    return promise;
  }

  ~history_state() {
    auto gone = to_caf(end.for_waiters(make_error(errc::unavailable, "history is shutting down")));
    for (auto& [id, p] : replays) p.deliver(gone);
    if (early)
      for (auto& question : *early) question.refuse(gone);
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
          if (!writes.empty()) write_next();
          then(outcome.ok() ? status{} : status(std::move(outcome).error()));
        });
  }

  void save(const ctl::BuildHistoryRecord& record, std::function<void(status)> then) {
    write([store = o.store, ref = record.ref(),
           bytes = record.SerializeAsString()] { return store->values().set(bucket, ref, bytes); },
          std::move(then));
  }

  static ctl::BuildHistoryEvent event_of(ctl::BuildHistoryEventType type,
                                         const ctl::BuildHistoryRecord& record) {
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

  void take_when_read(ctl::BuildHistoryEvent& event) {
    if (!early) return take(event);
    early->push_back({[this, event]() mutable { take(event); }, [](const caf::error&) {}});
  }

  void take(ctl::BuildHistoryEvent& event) {
    auto& record = *event.mutable_record();
    if (record.ref().empty()) return;
    bound_record(record);
    if (event.type() == ctl::STARTED) {
      active[record.ref()] = record;
      return publish(event);
    }
    active.erase(record.ref());
    finished->put(record);
    save(record, [ref = record.ref()](status s) {
      if (!s.ok()) spdlog::warn("history record of build {} not saved: {}", ref, s.error().message);
    });
    publish(event);
    wait_to_sweep();
  }

  /// Lately, and no build has had the name since.
  bool was_deleted(const std::string& ref) const {
    return !ref.empty() && !active.contains(ref) && !finished->find(ref) &&
           std::find(deleted.begin(), deleted.end(), ref) != deleted.end();
  }

  result<bool> listen(const ctl::BuildHistoryRequest& request, const history_listener& who) {
    if (request.limit() < 0)
      return make_error(errc::invalid_argument, "invalid limit " + std::to_string(request.limit()));
    KILN_TRY(auto wanted,
             parse_history_filters({request.filter().begin(), request.filter().end()}, unix_now_ns()));
    if (was_deleted(request.ref()))
      return make_error(errc::unknown, "ref " + request.ref() + " is deleted: file does not exist");
    tell(request, wanted, who);
    if (request.earlyexit()) {
      self->send(who, done_atom::value);
      return true;
    }
    listeners[who.address()] = {who, request.ref(), request.activeonly(), std::move(wanted)};
    self->monitor(who);
    return true;
  }

  /// What there is now: by when it began, and with a limit the newest ones first.
  void tell(const ctl::BuildHistoryRequest& request, const history_predicate& wanted,
            const history_listener& who) {
    bool newest_first = request.limit() > 0;
    auto comes_first = [&](const ctl::BuildHistoryRecord& a, const ctl::BuildHistoryRecord& b) {
      auto at = ns_of(a.createdat()), bt = ns_of(b.createdat());
      return newest_first ? at > bt : at < bt;
    };
    std::deque<const ctl::BuildHistoryRecord*> running;
    for (const auto& [ref, record] : active)
      if (request.ref().empty() || ref == request.ref()) running.push_back(&record);
    std::stable_sort(running.begin(), running.end(),
                     [&](const auto* a, const auto* b) { return comes_first(*a, *b); });

    auto left = newest_first ? request.limit() : -1;
    auto send = [&](ctl::BuildHistoryEventType type, const ctl::BuildHistoryRecord& record) {
      if (left == 0 || !wanted(record)) return;
      self->send(who, event_of(type, record));
      if (left > 0) --left;
    };
    auto send_finished = [&](const ctl::BuildHistoryRecord& record) {
      for (; !running.empty() && comes_first(*running.front(), record); running.pop_front())
        send(ctl::STARTED, *running.front());
      send(ctl::COMPLETE, record);
      return left != 0;
    };
    if (!request.activeonly()) {
      if (request.ref().empty()) {
        finished->visit(newest_first, send_finished);
      } else if (const auto* only = finished->find(request.ref())) {
        send_finished(*only);
      }
    }
    for (const auto* record : running) send(ctl::STARTED, *record);
  }

  void update(const ctl::UpdateBuildHistoryRequest& request, std::function<void(status)> then) {
    const auto* found = finished->find(request.ref());
    if (!found) {
      if (request.delete_() && active.contains(request.ref()))
        return then(make_error(errc::failed_precondition, "build " + request.ref() + " is running"));
      if (request.delete_() || request.finalize()) return then({});  // nothing is left to be done
      return then(make_error(errc::not_found,
                             "failed to retrieve record for ref \"" + request.ref() + "\": not found"));
    }
    if (!request.delete_() && !request.finalize() && request.pinned() && !found->pinned() &&
        finished->pinned() >= cfg::pinned_max)
      return then(make_error(errc::resource_exhausted,
                             "more than " + std::to_string(cfg::pinned_max) + " build records are pinned"));
    if (request.delete_()) {
      remove({request.ref()}, then);
    } else if (request.finalize()) {
      finalize(*found, then);
    } else {
      auto record = *found;
      record.set_pinned(request.pinned());
      changed(std::move(record), std::move(then));
    }
  }

  void changed(ctl::BuildHistoryRecord record, std::function<void(status)> then) {
    record.set_generation(record.generation() + 1);
    publish(event_of(ctl::COMPLETE, record));
    save(record, std::move(then));
    finished->put(std::move(record));
    wait_to_sweep();
  }

  /// Makes the trace, which few ask for, of the log that is kept anyway.
  void finalize(const ctl::BuildHistoryRecord& record, std::function<void(status)> then) {
    auto log = digest::parse(record.logs().digest());
    if (record.has_trace() || !log.ok()) return then({});
    jobs.run<ctl::Descriptor>(
        self, *o.io,
        [store = o.store, record, log = *log]() -> result<ctl::Descriptor> {
          KILN_TRY(auto bytes, store->blobs().read_all(log, cfg::log_bytes_max));
          ctl::Descriptor out;
          out.set_media_type(trace_media_type);
          KILN_CHECK(keep_document(*store, record.ref(), trace_of(record, build_log::decode(bytes)), out));
          return out;
        },
        [this, ref = record.ref(), then](result<ctl::Descriptor> trace) {
          if (!trace.ok()) return then(std::move(trace).error().with_context("trace of build " + ref));
          const auto* found = finished->find(ref);
          if (!found)  // deleted meanwhile
            return write(
                [store = o.store, ref, document = trace->digest()]() -> status {
                  KILN_CHECK(drop_document(*store, document, {ref}));
                  return {};
                },
                then);
          auto record = *found;
          *record.mutable_trace() = *std::move(trace);
          changed(std::move(record), then);
        });
  }

  void remove(const std::vector<std::string>& refs, std::function<void(status)> then) {
    std::vector<std::string> gone, documents;
    for (const auto& ref : refs) {
      auto record = finished->take(ref);
      if (!record) continue;
      gone.push_back(ref);
      deleted.push_back(ref);
      if (deleted.size() > cfg::deleted_max) deleted.pop_front();
      for (auto& digest : finished->orphaned_documents(*record)) documents.push_back(std::move(digest));
      publish(event_of(ctl::DELETED, *record));
    }
    auto left =
        std::make_shared<std::vector<std::pair<std::string, std::string>>>();  // document, whose it is
    write(
        [store = o.store, gone = std::move(gone), documents = std::move(documents), left]() -> status {
          for (const auto& ref : gone) KILN_CHECK(store->values().erase(bucket, ref));
          for (const auto& document : documents) {
            KILN_TRY(auto whose, drop_document(*store, document, gone));
            if (whose) left->emplace_back(document, *std::move(whose));
          }
          return {};
        },
        [this, left, then = std::move(then)](status s) mutable {
          // Who stores a document is known here by then; one that is not has gone, before others that had it
          // too.
          std::erase_if(*left,
                        [&](const auto& l) { return active.contains(l.second) || finished->find(l.second); });
          if (!s.ok() || left->empty()) return then(std::move(s));
          write(
              [store = o.store, left]() -> status {
                for (const auto& [document, whose] : *left)
                  KILN_CHECK(drop_document(*store, document, {whose}));
                return {};
              },
              std::move(then));
        });
  }

  // Cleaning up.

  /// Looks again when something will have become too old, at once where there is too much.
  void wait_to_sweep() {
    auto due = finished->next_expiry_ns();
    if (!due) return;
    using std::chrono::nanoseconds;
    auto pause = std::clamp(nanoseconds(*due - unix_now_ns()), nanoseconds(cfg::settle_time),
                            nanoseconds(cfg::sweep_interval));
    auto at = self->clock().now() + pause;
    if (sweep_at && *sweep_at <= at) return;
    sweep_at = at;
    self->delayed_send(self, pause, sweep_atom::value);
  }

  void sweep() {
    if (sweep_at && self->clock().now() < *sweep_at)
      return;  // one that an earlier one has taken the place of
    sweep_at.reset();
    auto refs = finished->expired(unix_now_ns(), cfg::sweep_batch);
    if (refs.empty()) return wait_to_sweep();
    bool more = refs.size() == cfg::sweep_batch;
    remove(refs, [this, more](status s) {
      if (!s.ok()) spdlog::warn("history records not removed: {}", s.error().message);
      if (!more || sweep_at) return wait_to_sweep();
      sweep_at = self->clock().now();
      self->send(self, sweep_atom::value);
    });
  }

  void replay(const std::string& ref, const status_listener& who, caf::typed_response_promise<bool> promise) {
    const auto* found = finished->find(ref);
    if (!found) return void(promise.deliver(false));
    auto log = digest::parse(found->logs().digest());
    if (!log.ok()) return void(promise.deliver(false));
    auto id = ++last_replay;
    replays.emplace(id, promise);
    jobs.run<bool>(
        self, *o.io,
        [store = o.store, log = *log, who]() -> result<bool> {
          KILN_TRY(auto bytes, store->blobs().read_all(log, cfg::log_bytes_max));
          for (auto& s : build_log::decode(bytes)) caf::anon_send(who, std::move(s));
          caf::anon_send(who, done_atom::value);
          return true;
        },
        [this, id, promise](result<bool> outcome) mutable {
          replays.erase(id);
          // A log that is gone is no log.
          promise.deliver(outcome.ok());
        });
  }
};

}  // namespace

status keep_document(store::ref_store& store, const std::string& ref, std::string_view bytes,
                     ctl::Descriptor& out) {
  KILN_TRY(auto blob, store.blobs().put(bytes));
  // Not a record's blob: the label keeps `prune --all` from taking it.
  KILN_CHECK(store.blobs().set_label(blob, keep_label, ref));
  out.set_digest(blob.str());
  out.set_size(static_cast<std::int64_t>(bytes.size()));
  return {};
}

history_impl::behavior_type history(history_impl::stateful_pointer<actor_state> self,
                                    history_options options) {
  auto& state = self->state.hold<history_state>("history", self, std::move(options));
  self->set_down_handler([&state](caf::down_msg& m) { state.listeners.erase(m.source); });
  return {
      [&state](ctl::BuildHistoryRequest& request, const history_listener& who) {
        return state.when_read<bool>([&state, request, who](auto promise) {
          auto listens = state.listen(request, who);
          if (!listens.ok()) listens = as_told(std::move(listens).error());
          answer(promise, std::move(listens));
        });
      },
      [&state](ctl::UpdateBuildHistoryRequest& request) {
        return state.when_read<ctl::UpdateBuildHistoryResponse>([&state, request](auto promise) {
          state.update(request, [promise](status s) mutable {
            answer(promise, s.ok()
                                ? result<ctl::UpdateBuildHistoryResponse>(ctl::UpdateBuildHistoryResponse{})
                                : as_told(std::move(s).error()));
          });
        });
      },
      [&state](ctl::BuildHistoryEvent& event) { state.take_when_read(event); },
      [&state](replay_atom, const std::string& ref, const status_listener& who) {
        return state.when_read<bool>([&state, ref, who](auto promise) { state.replay(ref, who, promise); });
      },
      [&state](sweep_atom) { state.sweep(); },
      [&state](job_done_atom, std::uint64_t id) { state.jobs.finish(id); },
  };
}

}  // namespace kiln::actors
