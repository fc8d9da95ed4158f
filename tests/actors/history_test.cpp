#include "actors/history/history.hpp"

#include <catch2/catch.hpp>

#include <filesystem>

#include <stdlib.h>

#include "actors/progress.hpp"
#include "fakes.hpp"
#include "store/ref_store.hpp"

using namespace kiln;

namespace {

constexpr std::int64_t second = 1'000'000'000;
constexpr std::int64_t hour = 3600 * second;

/// In step_history, so that tens of thousands of commits are no matter.
class memory_dir {
 public:
  memory_dir() {
    std::string name = "/dev/shm/kiln-history-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  ~memory_dir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// What a client that listens has heard.
struct heard {
  std::vector<std::string> events;  // "COMPLETE b1"
  bool done = false;

  std::vector<std::string> take() { return std::exchange(events, {}); }
};

history_listener::behavior_type listener(history_listener::pointer, std::shared_ptr<heard> into) {
  return {
      [into](ctl::BuildHistoryEvent& e) {
        into->events.push_back(ctl::BuildHistoryEventType_Name(e.type()) + " " + e.record().ref());
      },
      [into](done_atom) { into->done = true; },
  };
}

ctl::BuildHistoryRecord record_of(const std::string& ref, std::int64_t began_ns, std::int64_t ended_ns) {
  ctl::BuildHistoryRecord r;
  r.set_ref(ref);
  actors::set_time(*r.mutable_createdat(), began_ns);
  if (ended_ns != 0) actors::set_time(*r.mutable_completedat(), ended_ns);
  return r;
}

struct history_fixture {
  memory_dir root;
  std::unique_ptr<store::ref_store> store;
  test::test_config config;
  caf::actor_system system{config};
  test::stepped_scheduler& sched = test::stepped_scheduler::of(system);
  std::shared_ptr<actors::job_pool> io = std::make_shared<actors::job_pool>(0);
  actors::history_bounds bounds;
  std::shared_ptr<actors::history_index> index;
  actors::history_impl actor;
  std::vector<history_listener> listeners;
  const std::int64_t now = actors::unix_now_ns();

  history_fixture() {
    auto opened = store::ref_store::open({root.path(), store::snapshotter_kind::native});
    REQUIRE(opened.ok());
    store = *std::move(opened);
  }
  ~history_fixture() { stop(); }

  void start() {
    index = std::make_shared<actors::history_index>(bounds);
    actor = system.spawn(actors::history, actors::history_options{store.get(), io, bounds, index});
    sched.run();
  }
  void stop() {
    if (actor) caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
    for (auto& l : listeners) caf::anon_send_exit(l, caf::exit_reason::user_shutdown);
    actor = nullptr;
    listeners.clear();
    sched.run();
  }
  void tell(ctl::BuildHistoryEventType type, ctl::BuildHistoryRecord record) {
    ctl::BuildHistoryEvent e;
    e.set_type(type);
    *e.mutable_record() = std::move(record);
    caf::anon_send(actor, std::move(e));
    sched.run();
  }
  void complete(const std::string& ref, std::int64_t began_ns, std::int64_t ended_ns) {
    tell(ctl::COMPLETE, record_of(ref, began_ns, ended_ns));
  }
  std::shared_ptr<heard> listen(const ctl::BuildHistoryRequest& request) {
    auto into = std::make_shared<heard>();
    listeners.push_back(system.spawn(listener, into));
    caf::anon_send(actor, request, listeners.back());
    sched.run();
    return into;
  }
  std::vector<std::string> list(int limit = 0, std::vector<std::string> filters = {},
                                bool active_only = false) {
    ctl::BuildHistoryRequest request;
    request.set_earlyexit(true);
    request.set_limit(limit);
    request.set_activeonly(active_only);
    for (auto& f : filters) request.add_filter(std::move(f));
    auto all = listen(request);
    CHECK(all->done);
    return all->events;
  }
  /// Time passes as far as timers are concerned.
  void wait(caf::timespan time) {
    sched.advance_time(time);
    sched.run();
  }
  /// Until nothing more is cleaned up.
  void clean_up() {
    for (std::size_t before = 0; before != index->size();) {
      before = index->size();
      wait(configs::history::settle_time);
    }
  }
  std::size_t stored() const { return store->values().all("history").size(); }
};

std::vector<std::string> update(history_fixture& f, const std::string& ref, bool pinned, bool remove) {
  ctl::UpdateBuildHistoryRequest request;
  request.set_ref(ref);
  request.set_pinned(pinned);
  request.set_delete_(remove);
  caf::scoped_actor self{f.system};
  std::vector<std::string> failures;
  auto asked = self->request(f.actor, caf::infinite, request);
  f.sched.run();
  asked.receive([](const ctl::UpdateBuildHistoryResponse&) {},
                [&](const caf::error& e) { failures.push_back(from_caf(e).message); });
  return failures;
}

}  // namespace

TEST_CASE("a finished build costs the history the same work however many there are") {
  history_fixture f;
  f.bounds.records_max = 100'000;
  f.start();
  auto add = [&](int from, int to) {
    auto before = f.index->touched();
    for (int i = from; i < to; ++i) f.complete("b" + std::to_string(i), f.now + i, f.now + i + 1);
    f.wait(configs::history::settle_time);
    return (f.index->touched() - before) / static_cast<std::uint64_t>(to - from);
  };
  CHECK(add(0, 1'000) <= 4);
  CHECK(add(1'000, 20'000) <= 4);
  CHECK(f.index->size() == 20'000);
  CHECK(f.stored() == 20'000);

  // A listener hears of the next one without a look at the others.
  ctl::BuildHistoryRequest request;
  request.set_ref("b20000");
  auto waiting = f.listen(request);
  auto before = f.index->touched();
  f.complete("b20000", f.now, f.now);
  CHECK(waiting->take() == std::vector<std::string>{"COMPLETE b20000"});
  CHECK(f.index->touched() - before <= 4);

  // The newest few are found without a look at the others.
  before = f.index->touched();
  CHECK(f.list(3) == std::vector<std::string>{"COMPLETE b19999", "COMPLETE b19998", "COMPLETE b19997"});
  CHECK(f.index->touched() - before <= 4);
}

TEST_CASE("what is asked of a history before its records are read is answered when they are, in order") {
  history_fixture f;
  auto stored = record_of("stored", f.now - hour, f.now - hour + second);
  REQUIRE(f.store->values().set("history", "stored", stored.SerializeAsString()).ok());
  f.index = std::make_shared<actors::history_index>(f.bounds);
  f.actor = f.system.spawn(actors::history, actors::history_options{f.store.get(), f.io, f.bounds, f.index});
  // Before the actor has run at all: the records come with a later message.
  ctl::BuildHistoryEvent event;
  event.set_type(ctl::COMPLETE);
  *event.mutable_record() = record_of("new", f.now, f.now + second);
  caf::anon_send(f.actor, std::move(event));
  CHECK(f.list() == std::vector<std::string>{"COMPLETE stored", "COMPLETE new"});
  CHECK(f.stored() == 2);
}

TEST_CASE("a history of tens of thousands of old records opens at once and is cleaned up in small steps") {
  history_fixture f;
  constexpr int count = 40'000;
  for (int i = 0; i < count; ++i) {
    auto record = record_of("b" + std::to_string(i), f.now - 50 * hour + i, f.now - 50 * hour + i);
    REQUIRE(f.store->values().set("history", record.ref(), record.SerializeAsString()).ok());
  }
  f.bounds.entries_max = 50;
  f.start();
  CHECK(f.index->touched() <= count);
  CHECK(f.index->size() == count);
  CHECK(f.list(1) == std::vector<std::string>{"COMPLETE b39999"});
  f.wait(configs::history::settle_time);
  f.clean_up();
  CHECK(f.index->size() == 50);
  CHECK(f.stored() == 50);
  CHECK(f.index->touched() <= 4 * count);
  CHECK(f.list().front() == "COMPLETE b39950");
}

TEST_CASE("history records go when they are both too many and too old, unless pinned") {
  history_fixture f;
  f.bounds.entries_max = 2;
  f.bounds.age_max_ns = hour;
  f.start();
  for (int i = 0; i < 5; ++i)
    f.complete("old" + std::to_string(i), f.now - 3 * hour + i, f.now - 2 * hour + i);
  CHECK(update(f, "old0", true, false).empty());
  f.complete("young", f.now, f.now);
  f.clean_up();
  CHECK(f.list() == std::vector<std::string>{"COMPLETE old0", "COMPLETE old4", "COMPLETE young"});
  CHECK(update(f, "old0", false, false).empty());
  f.clean_up();
  CHECK(f.list() == std::vector<std::string>{"COMPLETE old4", "COMPLETE young"});
}

TEST_CASE("history records that become too old are removed by a timer") {
  history_fixture f;
  f.bounds.entries_max = 0;
  f.bounds.age_max_ns = 1;
  f.start();
  f.complete("b", f.now - hour, f.now - hour);
  CHECK(f.list() == std::vector<std::string>{"COMPLETE b"});
  auto waiting = f.listen({});
  waiting->take();
  f.wait(configs::history::sweep_interval);
  CHECK(waiting->take() == std::vector<std::string>{"DELETED b"});
  CHECK(f.list().empty());
  CHECK(f.stored() == 0);
}

TEST_CASE("young history records are bounded in number and in bytes") {
  history_fixture f;
  SECTION("number") { f.bounds.records_max = 100; }
  SECTION("bytes of records") {
    f.bounds.record_bytes_max = 100 * record_of("b1000", f.now, f.now).ByteSizeLong();
  }
  SECTION("bytes of documents") { f.bounds.document_bytes_max = 1'000; }
  f.start();
  for (int i = 1'000; i < 2'000; ++i) {
    auto record = record_of("b" + std::to_string(i), f.now, f.now + i);
    if (f.bounds.document_bytes_max == 1'000) record.mutable_logs()->set_size(10);
    if (f.bounds.document_bytes_max == 1'000) record.mutable_logs()->set_digest(sha256(record.ref()).str());
    f.tell(ctl::COMPLETE, std::move(record));
  }
  f.clean_up();
  CHECK(f.index->size() <= 100);
  CHECK(f.index->size() >= 90);
  CHECK(f.index->find("b1999") != nullptr);
  CHECK(f.stored() == f.index->size());
}

TEST_CASE("the history tells running and finished builds in order, by limit, filter and ref") {
  history_fixture f;
  f.start();
  f.complete("a", f.now - 40, f.now - 30);
  f.complete("c", f.now - 20, f.now - 10);
  f.tell(ctl::STARTED, record_of("b", f.now - 30, 0));
  f.tell(ctl::STARTED, record_of("d", f.now - 5, 0));
  CHECK(f.list() == std::vector<std::string>{"COMPLETE a", "STARTED b", "COMPLETE c", "STARTED d"});
  CHECK(f.list(3) == std::vector<std::string>{"STARTED d", "COMPLETE c", "STARTED b"});
  CHECK(f.list(0, {}, true) == std::vector<std::string>{"STARTED b", "STARTED d"});
  CHECK(f.list(0, {"status==running"}) == std::vector<std::string>{"STARTED b", "STARTED d"});
  CHECK(f.list(1, {"status==completed"}) == std::vector<std::string>{"COMPLETE c"});
  CHECK(f.list(0, {"ref==a", "ref==d"}) == std::vector<std::string>{"COMPLETE a", "STARTED d"});

  ctl::BuildHistoryRequest request;
  request.set_ref("b");
  auto one = f.listen(request);
  auto all = f.listen({});
  CHECK(one->take() == std::vector<std::string>{"STARTED b"});
  all->take();
  f.complete("d", f.now - 5, f.now);
  f.complete("b", f.now - 30, f.now);
  CHECK(one->take() == std::vector<std::string>{"COMPLETE b"});
  CHECK(all->take() == std::vector<std::string>{"COMPLETE d", "COMPLETE b"});
  CHECK(update(f, "b", false, true).empty());
  CHECK(one->take() == std::vector<std::string>{"DELETED b"});
  // What is gone may be deleted again; it is known to be gone, other than what never was.
  CHECK(update(f, "b", false, true).empty());
  CHECK(update(f, "never", false, true).empty());
  CHECK(update(f, "never", true, false) ==
        std::vector<std::string>{"failed to retrieve ref never: file does not exist"});
  caf::scoped_actor self{f.system};
  f.listen({});
  for (std::string ref : {"b", "never"}) {
    ctl::BuildHistoryRequest question;
    question.set_ref(ref);
    question.set_earlyexit(true);
    auto asked = self->request(f.actor, caf::infinite, question, f.listeners.back());
    f.sched.run();
    asked.receive([&](bool) { CHECK(ref == "never"); },
                  [&](const caf::error& e) {
                    CHECK(ref == "b");
                    CHECK(from_caf(e) == make_error(errc::unknown, "ref b is deleted"));
                  });
  }
  f.complete("b", f.now - 30, f.now);
  CHECK(update(f, "b", true, false).empty());
  CHECK(update(f, "b", false, true).empty());
  CHECK(f.list() == std::vector<std::string>{"COMPLETE a", "COMPLETE c", "COMPLETE d"});
}

TEST_CASE("a document that another record has too stays until both are gone") {
  history_fixture f;
  f.start();
  auto keep = [&](const std::string& ref) {
    auto record = record_of(ref, f.now, f.now);
    REQUIRE(actors::keep_document(*f.store, ref, "the same words", *record.mutable_externalerror()).ok());
    f.tell(ctl::COMPLETE, record);
    return digest::trusted(record.externalerror().digest());
  };
  auto d = keep("a");
  keep("b");
  CHECK(update(f, "a", false, true).empty());
  CHECK(f.store->blobs().has(d));
  CHECK(update(f, "b", false, true).empty());
  CHECK_FALSE(f.store->blobs().has(d));
}

TEST_CASE("a document that records share goes with the last of them, whoever stored it last") {
  history_fixture f;
  f.start();
  auto keep = [&](const std::string& ref) {
    auto record = record_of(ref, f.now, f.now);
    REQUIRE(actors::keep_document(*f.store, ref, "the same words", *record.mutable_externalerror()).ok());
    return record;
  };
  auto record = keep("a");
  auto shared = digest::trusted(record.externalerror().digest());
  f.tell(ctl::COMPLETE, record);
  f.tell(ctl::COMPLETE, keep("b"));
  SECTION("that one goes first") {
    CHECK(update(f, "b", false, true).empty());
    CHECK(f.store->blobs().has(shared));
    CHECK(update(f, "a", false, true).empty());
    CHECK_FALSE(f.store->blobs().has(shared));
  }
  SECTION("that one still runs") {
    f.tell(ctl::STARTED, record_of("runs", f.now, 0));
    keep("runs");
    CHECK(update(f, "b", false, true).empty());
    CHECK(update(f, "a", false, true).empty());
    CHECK(f.store->blobs().has(shared));
  }
}

TEST_CASE("a document that an export still needs stays when its record goes, and is nobody's then") {
  history_fixture f;
  f.start();
  auto record = record_of("a", f.now, f.now);
  REQUIRE(actors::keep_document(*f.store, "a", "a statement", *record.mutable_externalerror()).ok());
  f.tell(ctl::COMPLETE, record);
  auto d = digest::trusted(record.externalerror().digest());
  auto hold = f.store->blobs().hold(d);
  CHECK(update(f, "a", false, true).empty());
  REQUIRE(f.store->blobs().has(d));
  CHECK(f.store->blobs().info(d)->labels.empty());
  hold.reset();
  REQUIRE(f.store->space().prune({.all = true}, {}).ok());
  CHECK_FALSE(f.store->blobs().has(d));
}

TEST_CASE("a record too large for one message loses its long texts only") {
  auto record = record_of("b", 1, 2);
  (*record.mutable_frontendattrs())["short"] = "kept";
  (*record.mutable_frontendattrs())["long"] = std::string(2 * configs::history::one_record_bytes_max, 'x');
  record.mutable_error()->set_message("boom");
  actors::bound_record(record);
  CHECK(record.ByteSizeLong() < configs::history::one_record_bytes_max);
  CHECK(record.frontendattrs().at("short") == "kept");
  CHECK(record.frontendattrs().at("long").size() < 2 * configs::history::long_text_bytes);
  CHECK(record.error().message() == "boom");
}
