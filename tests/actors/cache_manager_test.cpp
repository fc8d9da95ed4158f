#include "actors/cache/cache_manager.hpp"

#include "fakes.hpp"
#include "store/files/mount.hpp"
#include "tests/store/store_fixture.hpp"

using namespace kiln;
using namespace kiln::test;
namespace fs = std::filesystem;

namespace {

using heard_texts = std::shared_ptr<std::vector<std::string>>;

prune_listener::behavior_type note(prune_listener::pointer, heard_texts heard) {
  return {[heard](ctl::UsageRecord& r) { heard->push_back(r.description()); },
          [heard](done_atom) { heard->push_back("done"); }};
}

}  // namespace

TEST_CASE("who prunes is told of what went, and of a failure instead of the end") {
  test_config config;
  caf::actor_system system{config};
  auto& sched = test::stepped_scheduler::of(system);
  store::testing::temporary_root root;
  auto store = store::testing::open_store(root);
  store::testing::layer_of(*store, {}, {{"f", "x"}}, {.description = "layer"});
  actors::cache_manager_options options;
  options.store = store.get();
  options.io = std::make_shared<actors::job_pool>(0);
  auto manager = system.spawn(actors::cache_manager, options);
  auto heard = std::make_shared<std::vector<std::string>>();
  auto listener = system.spawn(note, heard);
  caf::scoped_actor self{system};
  auto prune = [&] {
    std::string failure;
    auto answer = self->request(manager, caf::infinite, prune_rule{.all = true}, listener);
    sched.run();
    answer.receive([](bool) {}, [&](caf::error& e) { failure = from_caf(e).message; });
    return failure;
  };

  // What something is mounted on cannot be removed.
  auto point = root.path() / "snapshots/1/fs/mounted";
  fs::create_directories(point);
  store::mount_spec busy{"bind", root.path() / "transient", {"bind"}};
  if (store::mount_all(std::vector{busy}, point).ok()) {
    auto failure = prune();
    INFO(failure);
    CHECK(failure.find("mounted") != std::string::npos);
    CHECK(*heard == std::vector<std::string>{"layer"});
    REQUIRE(store::unmount(point).ok());
  }
  heard->clear();
  CHECK(prune().empty());
  CHECK(heard->back() == "done");
  caf::anon_send_exit(manager, caf::exit_reason::user_shutdown);
  caf::anon_send_exit(listener, caf::exit_reason::user_shutdown);
  sched.run();
}
