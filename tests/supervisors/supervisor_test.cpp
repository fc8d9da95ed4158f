#include "supervisors/supervisor.hpp"

#include <catch2/catch.hpp>
#include <spdlog/spdlog.h>

#include "messages/actor_error.hpp"
#include "messages/actor_interfaces.hpp"
#include "tests/support/stepped_scheduler.hpp"

using namespace kiln;
using namespace kiln::supervision;
using namespace std::chrono_literals;

namespace {

using crash_atom = caf::atom_constant<caf::atom("crash")>;
using leave_atom = caf::atom_constant<caf::atom("leave")>;

struct test_config : caf::actor_system_config {
  test_config() {
    test::stepped_scheduler::install(*this);
    add_message_types<caf::id_block::kiln>();
  }
};

/// What happened, in order: "+a" started, "-a" stopped.
using journal = std::vector<std::string>;

/// A child that writes its life into the journal, and crashes or leaves when told to.
struct child_state {
  std::shared_ptr<journal> log;
  std::string id;
  ~child_state() {
    if (log) log->push_back("-" + id);
  }
};

caf::behavior child(caf::stateful_actor<child_state>* self, std::shared_ptr<journal> log, std::string id,
                    bool stubborn) {
  log->push_back("+" + id);
  self->state.log = std::move(log);
  self->state.id = std::move(id);
  if (stubborn)
    self->set_exit_handler([self](caf::exit_msg& m) {
      if (m.reason == caf::exit_reason::kill) self->quit(m.reason);
    });
  return {[self](crash_atom) { self->quit(to_caf(make_error(errc::internal, "crashed on purpose"))); },
          [self](leave_atom) { self->quit(); }, [](int x) { return x; }};
}

struct fixture {
  fixture() { spdlog::set_level(spdlog::level::off); }

  child_spec spec(std::string id, restart policy = restart::permanent, bool stubborn = false) {
    child_spec s;
    s.id = id;
    s.policy = policy;
    s.start = [this, id, stubborn](caf::event_based_actor* parent,
                                   const caf::message&) -> caf::expected<caf::actor> {
      if (failing_starts > 0) {
        --failing_starts;
        return to_caf(make_error(errc::unavailable, "no luck"));
      }
      return caf::actor{parent->system().spawn(child, log, id, stubborn)};
    };
    return s;
  }

  caf::actor start(strategy how, std::vector<child_spec> children, int intensity = 3) {
    auto root = spawn_supervisor(system, {"test", how, intensity, 5s, std::move(children), registry});
    scheduler().run();
    return root;
  }

  test::stepped_scheduler& scheduler() { return test::stepped_scheduler::of(system); }

  void tell(const std::string& id, caf::message m) {
    caf::anon_send(registry->get(id), std::move(m));
    scheduler().run();
  }
  void crash(const std::string& id) { tell(id, caf::make_message(crash_atom::value)); }

  void stop(const caf::actor& a) {
    caf::anon_send_exit(a, caf::exit_reason::user_shutdown);
    scheduler().run();
  }

  bool alive(const caf::actor& a) {
    return !caf::actor_cast<caf::abstract_actor*>(a)->getf(caf::abstract_actor::is_terminated_flag);
  }

  journal take() { return std::exchange(*log, {}); }

  test_config config;
  caf::actor_system system{config};
  std::shared_ptr<actor_registry> registry = std::make_shared<actor_registry>();
  std::shared_ptr<journal> log = std::make_shared<journal>();
  int failing_starts = 0;
};

}  // namespace

TEST_CASE("children start in order and stop in reverse order") {
  fixture f;
  auto root = f.start(strategy::one_for_one, {f.spec("a"), f.spec("b"), f.spec("c")});
  CHECK(f.take() == journal{"+a", "+b", "+c"});
  f.stop(root);
  CHECK(f.take() == journal{"-c", "-b", "-a"});
  CHECK_FALSE(f.alive(root));
}

TEST_CASE("one_for_one starts only the dead child again, under a new handle that the registry knows") {
  fixture f;
  auto root = f.start(strategy::one_for_one, {f.spec("a"), f.spec("b"), f.spec("c")});
  auto before = f.registry->get("b");
  f.take();
  f.crash("b");
  CHECK(f.take() == journal{"-b", "+b"});
  CHECK(f.registry->get("b"));
  CHECK(f.registry->get("b") != before);
  f.stop(root);
  CHECK_FALSE(f.registry->get("b"));
}

TEST_CASE("one_for_all stops every sibling in reverse order and starts all again") {
  fixture f;
  auto root = f.start(strategy::one_for_all, {f.spec("a"), f.spec("b"), f.spec("c")});
  f.take();
  f.crash("b");
  CHECK(f.take() == journal{"-b", "-c", "-a", "+a", "+b", "+c"});
  f.stop(root);
}

TEST_CASE("rest_for_one restarts the dead child and those started after it") {
  fixture f;
  auto root = f.start(strategy::rest_for_one, {f.spec("a"), f.spec("b"), f.spec("c"), f.spec("d")});
  f.take();
  f.crash("b");
  CHECK(f.take() == journal{"-b", "-d", "-c", "+b", "+c", "+d"});
  f.stop(root);
}

TEST_CASE("a transient child comes back after a crash but not after a normal end") {
  fixture f;
  auto root = f.start(strategy::one_for_one, {f.spec("a", restart::transient)});
  f.take();
  f.crash("a");
  CHECK(f.take() == journal{"-a", "+a"});
  f.tell("a", caf::make_message(leave_atom::value));
  CHECK(f.take() == journal{"-a"});
  CHECK(f.alive(root));
  f.stop(root);
}

TEST_CASE("a temporary child never comes back, a permanent one always does") {
  fixture f;
  auto root = f.start(strategy::one_for_one, {f.spec("a", restart::temporary), f.spec("b")});
  f.take();
  f.crash("a");
  CHECK(f.take() == journal{"-a"});
  f.tell("b", caf::make_message(leave_atom::value));
  CHECK(f.take() == journal{"-b", "+b"});
  f.stop(root);
}

TEST_CASE("restarts beyond the intensity within the period make the supervisor give up") {
  fixture f;
  auto root = f.start(strategy::one_for_one, {f.spec("a"), f.spec("b")}, 2);
  f.take();
  f.crash("a");
  f.crash("a");
  CHECK(f.alive(root));
  f.take();
  f.crash("a");
  CHECK(f.take() == journal{"-a", "-b"});
  CHECK_FALSE(f.alive(root));
}

TEST_CASE("restarts spread over more than the period are forgiven") {
  fixture f;
  auto root = f.start(strategy::one_for_one, {f.spec("a")}, 1);
  for (int i = 0; i < 5; ++i) {
    f.crash("a");
    REQUIRE(f.alive(root));
    f.scheduler().advance_time(6s);
    f.scheduler().run();
  }
  f.stop(root);
}

TEST_CASE("a failed start is tried again within the intensity") {
  fixture f;
  f.failing_starts = 2;
  auto root = f.start(strategy::one_for_one, {f.spec("a"), f.spec("b")}, 2);
  CHECK(f.take() == journal{"+a", "+b"});
  CHECK(f.alive(root));
  f.stop(root);

  f.failing_starts = 3;
  root = f.start(strategy::one_for_one, {f.spec("a")}, 2);
  CHECK_FALSE(f.alive(root));
}

TEST_CASE("giving up escalates: the parent restarts the whole nested supervisor, then gives up itself") {
  fixture f;
  auto inner = nested({"inner", strategy::one_for_one, 1, 5s, {f.spec("a"), f.spec("b")}, f.registry});
  auto root = f.start(strategy::one_for_one, {f.spec("z"), inner}, 1);
  f.take();
  f.crash("a");
  CHECK(f.take() == journal{"-a", "+a"});
  f.crash("a");  // inner gives up; root starts it anew
  CHECK(f.take() == journal{"-a", "-b", "+a", "+b"});
  CHECK(f.alive(root));
  f.crash("a");
  f.take();
  f.crash("a");  // and again: too much for root as well
  CHECK(f.take() == journal{"-a", "-b", "-z"});
  CHECK_FALSE(f.alive(root));
}

TEST_CASE("a child that ignores shutdown is killed after its time-out, and the rest still stops") {
  fixture f;
  auto root = f.start(strategy::one_for_one, {f.spec("a"), f.spec("b", restart::permanent, true)});
  f.take();
  f.stop(root);
  CHECK(f.take().empty());
  f.scheduler().advance_time(5s);
  f.scheduler().run();
  CHECK(f.take() == journal{"-b", "-a"});
  CHECK_FALSE(f.alive(root));
}

TEST_CASE("a stop asked for in the middle of a restart stops everything") {
  fixture f;
  auto root =
      f.start(strategy::one_for_all, {f.spec("a"), f.spec("b", restart::permanent, true), f.spec("c")});
  f.take();
  f.crash("c");  // b now refuses to stop for the restart
  CHECK(f.take() == journal{"-c"});
  f.stop(root);
  f.scheduler().advance_time(5s);
  f.scheduler().run();
  CHECK(f.take() == journal{"-b", "-a"});
  CHECK_FALSE(f.alive(root));
}

TEST_CASE("simple_one_for_one starts children on demand and stops them together") {
  fixture f;
  auto root = f.start(strategy::simple_one_for_one, {f.spec("s", restart::temporary)});
  CHECK(f.take().empty());
  caf::scoped_actor self{f.system};
  std::vector<caf::actor> started;
  for (int i = 0; i < 3; ++i) {
    auto request = self->request(root, caf::infinite, start_child_atom::value, caf::make_message(i));
    f.scheduler().run();
    request.receive([&](caf::actor& a) { started.push_back(a); },
                    [&](caf::error& e) { FAIL(from_caf(e).message); });
  }
  CHECK(f.take() == journal{"+s", "+s", "+s"});
  caf::anon_send(started[1], crash_atom::value);
  f.scheduler().run();
  CHECK(f.take() == journal{"-s"});
  started.clear();
  f.stop(root);
  CHECK(f.take() == journal{"-s", "-s"});
  CHECK_FALSE(f.alive(root));
}

TEST_CASE("an adopted child stops with the tree, is forgotten when it ends, and is never restarted") {
  fixture f;
  auto root = f.start(strategy::simple_one_for_one, {f.spec("s")});
  auto one = f.system.spawn(child, f.log, "one", false);
  auto two = f.system.spawn(child, f.log, "two", false);
  for (const auto& a : {one, two}) caf::anon_send(root, adopt_atom::value, caf::actor{a});
  f.scheduler().run();
  caf::anon_send(caf::actor{one}, crash_atom::value);
  f.scheduler().run();
  CHECK(f.take() == journal{"+one", "+two", "-one"});
  f.stop(root);
  CHECK(f.take() == journal{"-two"});
  CHECK_FALSE(f.alive(root));
}

TEST_CASE("the report tells who lives and how often each was restarted") {
  fixture f;
  auto root = f.start(strategy::one_for_one, {f.spec("a"), f.spec("b", restart::temporary)});
  f.crash("a");
  f.crash("b");
  caf::scoped_actor self{f.system};
  auto request = self->request(root, caf::infinite, children_atom::value);
  f.scheduler().run();
  request.receive(
      [&](std::vector<child_report>& all) {
        REQUIRE(all.size() == 2);
        CHECK((all[0].id == "a" && all[0].alive && all[0].restarts == 1));
        CHECK((all[1].id == "b" && !all[1].alive && all[1].restarts == 0));
      },
      [&](caf::error& e) { FAIL(from_caf(e).message); });
  f.stop(root);
}
