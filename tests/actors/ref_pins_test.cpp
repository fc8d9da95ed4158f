#include "actors/worker/worker.hpp"

#include <catch2/catch.hpp>

#include "fakes.hpp"
#include "tests/store/store_fixture.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

struct pins_fixture {
  test_config config;
  caf::actor_system system{config};
  stepped_scheduler& sched = stepped_scheduler::of(system);
  store::testing::temporary_root root;
  std::unique_ptr<store::ref_store> store = store::testing::open_store(root);
  std::string id = store::testing::layer_of(*store, {}, {{"f", "x"}}, {.description = "layer"}).id();
  actors::worker_impl worker;

  pins_fixture() {
    actors::worker_options o;
    o.store = store.get();
    o.ops = o.calls = o.io = std::make_shared<actors::job_pool>(0);
    worker = system.spawn(actors::worker, std::move(o));
    sched.run();
  }
  ~pins_fixture() {
    caf::anon_send_exit(worker, caf::exit_reason::user_shutdown);
    worker = nullptr;
    sched.run();
  }
  bool in_use() const {
    auto all = store->space().disk_usage({});
    REQUIRE(all.ok());
    for (const auto& record : *all)
      if (record.id == id) return record.in_use;
    return false;
  }
  /// Pins and, before the answer, gives so many back.
  void pin(caf::scoped_actor& who, int releases) {
    auto asked = who->request(worker, caf::infinite, pin_atom::value, id);
    for (int i = 0; i < releases; ++i) who->send(worker, release_atom::value, id);
    sched.run();
    asked.receive([](bool yes) { CHECK(yes); }, [](caf::error& e) { FAIL(from_caf(e).message); });
  }
};

}  // namespace

TEST_CASE_METHOD(pins_fixture, "a pin holds until it is given back as often as it was taken") {
  caf::scoped_actor me{system};
  CHECK_FALSE(in_use());
  pin(me, 0);
  pin(me, 0);
  CHECK(in_use());
  me->send(worker, release_atom::value, id);
  sched.run();
  CHECK(in_use());
  me->send(worker, release_atom::value, id);
  sched.run();
  CHECK_FALSE(in_use());
}

TEST_CASE_METHOD(pins_fixture, "a pin that is given back before it is answered holds nothing") {
  caf::scoped_actor me{system};
  pin(me, 1);
  CHECK_FALSE(in_use());
  pin(me, 0);
  CHECK(in_use());
}

TEST_CASE_METHOD(pins_fixture, "what somebody pinned who is gone is free, also when the pin was under way") {
  {
    caf::scoped_actor me{system};
    me->send(worker, pin_atom::value, id);
  }
  sched.run();
  CHECK_FALSE(in_use());
}
