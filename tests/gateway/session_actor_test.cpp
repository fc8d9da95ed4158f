#include <catch2/catch.hpp>

#include <caf/all.hpp>

#include "actors/session/session.hpp"
#include "tests/support/stepped_scheduler.hpp"

using namespace kiln;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

struct fake_link final : session_link {
  std::string name = "s1";
  std::vector<milliseconds> timeouts;
  std::function<void(status)> pending;
  std::vector<error> closed;
  const std::string& id() const override { return name; }
  void check_health(milliseconds timeout, std::function<void(status)> answer) override {
    timeouts.push_back(timeout);
    pending = std::move(answer);
  }
  void close(error why) override { closed.push_back(std::move(why)); }
};

/// The session actor on CAF's test scheduler and virtual time.
struct virtual_time {
  struct config_type : caf::actor_system_config {
    config_type() {
      add_message_types<caf::id_block::kiln>();
      test::stepped_scheduler::install(*this);
    }
  };
  config_type config;
  caf::actor_system system{config};
  test::stepped_scheduler& scheduler = test::stepped_scheduler::of(system);
  std::shared_ptr<fake_link> link = std::make_shared<fake_link>();
  session_actor actor;

  explicit virtual_time(int failures_max = 2) {
    actor = system.spawn(session, session_options{link, seconds{5}, seconds{15}, failures_max});
    scheduler.run();
  }
  ~virtual_time() {
    caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
    actor = nullptr;
    scheduler.run();
  }
  void pass(milliseconds time) {
    scheduler.advance_time(time);
    scheduler.run();
  }
  void answer(status outcome) {
    std::exchange(link->pending, nullptr)(std::move(outcome));
    scheduler.run();
  }
};

status sick() { return make_error(errc::unavailable, "no answer"); }

}  // namespace

TEST_CASE("a session is checked every five seconds after the last answer") {
  virtual_time t;
  t.pass(milliseconds{4'999});
  CHECK(t.link->timeouts.empty());
  t.pass(milliseconds{1});
  CHECK(t.link->timeouts.size() == 1);
  t.pass(seconds{60});
  CHECK(t.link->timeouts.size() == 1);  // one at a time
  t.answer({});
  t.pass(seconds{5});
  CHECK(t.link->timeouts.size() == 2);
  CHECK(t.link->closed.empty());
}

TEST_CASE("two misses in a row end a session, one does not") {
  virtual_time t;
  for (auto outcome : {false, true, false}) {
    t.pass(seconds{5});
    t.answer(outcome ? status{} : sick());
  }
  CHECK(t.link->closed.empty());
  t.pass(seconds{5});
  t.answer(sick());
  REQUIRE_FALSE(t.link->closed.empty());
  CHECK(t.link->closed.front().message == "session healthcheck failed fatally: no answer");
}

TEST_CASE("a slow answer makes the next check more patient") {
  virtual_time t;
  t.pass(seconds{5});
  CHECK(t.link->timeouts.back() == seconds{15});
  t.pass(seconds{14});
  t.answer({});
  t.pass(seconds{5});
  CHECK(t.link->timeouts.back() == seconds{21});
}

TEST_CASE("with a threshold of one the first miss is fatal") {
  virtual_time t(1);
  t.pass(seconds{5});
  t.answer(sick());
  CHECK_FALSE(t.link->closed.empty());
}

TEST_CASE("an actor that dies closes its tunnel") {
  virtual_time t;
  caf::anon_send_exit(t.actor, caf::exit_reason::kill);
  t.scheduler.run();
  REQUIRE_FALSE(t.link->closed.empty());
  CHECK(t.link->closed.back().message == "session s1 ended");
}

TEST_CASE("an answer after the session's end goes nowhere") {
  virtual_time t;
  t.pass(seconds{5});
  caf::anon_send(t.actor, ended_atom::value);
  t.scheduler.run();
  t.answer(sick());
  CHECK(t.link->closed.size() == 1);
}
