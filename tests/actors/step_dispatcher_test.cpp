#include "actors/cluster/step_dispatcher.hpp"

#include <catch2/catch.hpp>
#include <spdlog/spdlog.h>

#include "actors/handle_rest.hpp"
#include "configs/placing.hpp"
#include "fakes.hpp"
#include "messages/platform.hpp"
#include "solver/error_details.hpp"

using namespace kiln;
using namespace kiln::test;
using namespace std::chrono_literals;

namespace limits = configs::placing;

namespace {

/// The cluster actor as far as a dispatcher asks it: what the workers are now.
cluster_actor::behavior_type fake_cluster(cluster_actor::pointer, std::shared_ptr<cluster_view> view) {
  return actors::handle_rest<cluster_actor>(
      []<class Reply, class... Parts>(Parts&&...) -> caf::result<Reply> {
        return to_caf(make_error(errc::unimplemented, "not part of this test"));
      },
      [](auto&&...) {},
      [](hello_atom, link_hello&, const caf::strong_actor_ptr&,
         const peer_worker_actor&) -> caf::result<link_hello, peer_worker_actor> {
        return to_caf(make_error(errc::unimplemented, "not part of this test"));
      },
      [view](ask_peers_atom, describe_atom) { return *view; });
}

/// The dispatcher of node "a", which only coordinates, over fake workers.
struct dispatcher_fixture {
  struct node {
    node_info info;
    std::shared_ptr<worker_script> script = std::make_shared<worker_script>();
    worker_actor worker;
  };

  test_config config;
  caf::actor_system system{config};
  test::stepped_scheduler& sched = test::stepped_scheduler::of(system);
  std::map<std::string, node> nodes;
  std::shared_ptr<cluster_view> view = std::make_shared<cluster_view>();
  cluster_actor cluster;
  actors::step_dispatcher_impl dispatcher;

  dispatcher_fixture() {
    spdlog::set_level(spdlog::level::off);
    cluster = system.spawn(fake_cluster, view);
    auto& own = make("a");
    own.info.role = node_role::coordinator;
    own.script->record.set_id("worker of a");
    to_proto(*parse_platform("linux/amd64"), *own.script->record.add_platforms());
    dispatcher = system.spawn(actors::step_dispatcher, actors::step_dispatcher_options{
                                                           own.info, [this] { return nodes.at("a").worker; },
                                                           [this] { return cluster; }});
    sched.run();
  }
  ~dispatcher_fixture() {
    caf::anon_send_exit(dispatcher, caf::exit_reason::user_shutdown);
    caf::anon_send_exit(cluster, caf::exit_reason::user_shutdown);
    for (auto& [name, n] : nodes) caf::anon_send_exit(n.worker, caf::exit_reason::user_shutdown);
    dispatcher = nullptr;
    cluster = nullptr;
    nodes.clear();
    sched.run();
  }

  node& make(const std::string& name) {
    auto& n = nodes[name];
    n.info.name = name;
    n.info.slots = 2;
    n.worker = system.spawn(fake_worker, n.script);
    return n;
  }
  node& join(const std::string& name, const std::string& platform, const std::string& device = "") {
    auto& n = make(name);
    n.info.record.set_id("worker of " + name);
    to_proto(*parse_platform(platform), *n.info.record.add_platforms());
    if (!device.empty()) {
      auto& d = *n.info.record.add_cdidevices();
      d.set_name(device);
      d.set_autoallow(true);
    }
    view->nodes.push_back({n.info, {}, "up", "", 0, 0});
    caf::anon_send(dispatcher, join_atom::value, n.info, peer_worker_actor(n.worker));
    sched.run();
    return n;
  }
  void leave(const std::string& name) {
    caf::anon_send(dispatcher, leave_atom::value, name);
    sched.run();
  }
  void pass(std::chrono::nanoseconds time) {
    sched.advance_time(time);
    sched.run();
  }

  template <class T>
  struct answer {
    std::shared_ptr<std::optional<result<T>>> got = std::make_shared<std::optional<result<T>>>();
    std::shared_ptr<progress_log> log = std::make_shared<progress_log>();
    bool open() const { return !got->has_value(); }
    const result<T>& operator*() const { return **got; }
    const result<T>* operator->() const { return &**got; }
  };
  template <class T, class... Parts>
  answer<T> ask(Parts... parts) {
    answer<T> out;
    system.spawn(
        [=, to = dispatcher, got = out.got](caf::event_based_actor* self, caf::unit_t) {
          self->request(to, caf::infinite, parts...)
              .then([=](T& value) { *got = result<T>(std::move(value)); },
                    [=](caf::error& e) { *got = result<T>(from_caf(e)); });
        },
        caf::unit);
    sched.run();
    return out;
  }
  answer<run_reply> run(const pb::Op& op, const std::string& platform = "linux/amd64") {
    run_request r;
    r.op.vertex = "sha256:step";
    r.op.op = op;
    r.op.platform = *parse_platform(platform);
    auto log = std::make_shared<progress_log>();
    auto out = ask<run_reply>(r, progress_actor(system.spawn(collector, log)));
    out.log = log;
    return out;
  }
  static pb::Op exec(const std::string& command) {
    pb::Op op;
    op.mutable_exec()->mutable_meta()->add_args(command);
    return op;
  }
  /// How often clients were told that the step waits, and that it waits no more.
  static std::pair<int, int> waits(const answer<run_reply>& a) {
    std::pair<int, int> out;
    for (const auto& s : a.log->all)
      for (const auto& v : s.statuses())
        if (v.id().find("waiting for a node") != std::string::npos)
          ++(v.has_completed() ? out.second : out.first);
    return out;
  }
};

}  // namespace

TEST_CASE_METHOD(dispatcher_fixture,
                 "a step that comes before the workers waits for one, and clients see it") {
  auto early = run(exec("make"));
  CHECK(early.open());
  CHECK(waits(early) == std::pair(1, 0));
  pass(limits::join_time - 1s);
  CHECK(early.open());
  auto& b = join("b", "linux/amd64");
  CHECK(b.script->ran == std::vector<std::string>{"make"});
  CHECK(early->ok());
  CHECK(waits(early) == std::pair(1, 1));
}

TEST_CASE_METHOD(dispatcher_fixture, "a step waits for a worker no longer than it must, and says for what") {
  auto early = run(exec("make"));
  pass(limits::join_time);
  REQUIRE(!early.open());
  CHECK(early->error().code == errc::failed_precondition);
  CHECK(early->error().message.find("no node of the cluster runs steps") != std::string::npos);
  CHECK(waits(early) == std::pair(1, 1));
  join("b", "linux/amd64");
  pass(limits::settle_time);
  auto op = exec("make");
  op.mutable_constraints()->add_filter("labels.disk==fast");
  auto vain = run(op);
  REQUIRE(!vain.open());
  CHECK(vain->error().message.find("constraint labels.disk==fast") != std::string::npos);
}

TEST_CASE_METHOD(dispatcher_fixture, "the only worker ends under a step: it waits for the next one") {
  auto& b = join("b", "linux/amd64");
  b.script->hold = true;
  auto step = run(exec("make"));
  CHECK(b.script->ran.size() == 1);
  leave("b");
  CHECK(step.open());
  CHECK(waits(step) == std::pair(1, 0));
  auto& c = join("c", "linux/amd64");
  CHECK(c.script->ran == std::vector<std::string>{"make"});
  CHECK(step->ok());
  b.script->held.clear();
}

TEST_CASE_METHOD(dispatcher_fixture,
                 "a step goes elsewhere when its node does not see yet who has its input") {
  auto& b = join("b", "linux/amd64");
  auto& c = join("c", "linux/amd64");
  b.script->refuse = [](const run_request& r) -> std::optional<error> {
    return solver::lost_ref(r.inputs.at(0), "node c is not in the cluster");
  };
  auto ask_run = [&] {
    run_request r;
    r.op.vertex = "sha256:step";
    r.op.op = exec("make");
    r.op.platform = *parse_platform("linux/amd64");
    r.inputs = {"c!input"};
    return ask<run_reply>(r, progress_actor(system.spawn(collector, std::make_shared<progress_log>())));
  };
  auto load_c = [&](int running) {
    node_load load;
    load.running = running;
    caf::anon_send(dispatcher, load, std::string("c"));
    sched.run();
  };
  load_c(2);  // it has no time: b gets the step
  auto step = ask_run();
  pass(1s);
  CHECK(b.script->ran.size() == 1);
  CHECK(step.open());
  load_c(0);
  REQUIRE(!step.open());
  CHECK(step->ok());
  CHECK(c.script->ran.size() == 1);
  // Who had it says itself that it is gone: then it is.
  c.script->refuse = [](const run_request&) -> std::optional<error> {
    return solver::lost_ref("input", "it was removed");
  };
  auto vain = ask_run();
  REQUIRE(!vain.open());
  CHECK(solver::lost_ref_of(vain->error()) == "c!input");
}

TEST_CASE_METHOD(dispatcher_fixture, "files of a platform that no node runs are moved as on one node") {
  auto& b = join("b", "linux/amd64");
  pb::Op op;
  op.mutable_file()->add_actions()->mutable_mkdir()->set_path("/x");
  CHECK(run(op, "linux/s390x")->ok());
  CHECK(b.script->ran == std::vector<std::string>{"mkdir /x"});
}

TEST_CASE_METHOD(dispatcher_fixture, "a step has as many results elsewhere as it would have here") {
  join("b", "linux/amd64");
  pb::Op op;
  for (int i = 0; i < 3; ++i) op.mutable_passthrough()->add_outputs(i);
  auto passed = run(op);
  REQUIRE(passed->ok());
  CHECK((*passed)->outputs == std::vector<std::string>{"b!other#1", "b!other#1", "b!other#1"});
  auto three = exec("three");
  for (int i = 0; i < 3; ++i) three.mutable_exec()->add_mounts()->set_output(i);
  CHECK((*run(three))->outputs.size() == 3);
}

TEST_CASE_METHOD(dispatcher_fixture, "what is offered to builds is what the nodes that run steps have") {
  auto early = ask<types::WorkerRecord>(describe_atom::value);
  CHECK(early.open());
  auto& b = join("b", "linux/arm64", "v/one=1");
  REQUIRE(!early.open());
  CHECK((*early)->id() == "worker of a");
  REQUIRE((*early)->platforms_size() == 1);
  CHECK((*early)->platforms(0).architecture() == "arm64");
  REQUIRE((*early)->cdidevices_size() == 1);
  // Its own platform first, as far as there is a node that runs it; devices as they are now.
  join("c", "linux/amd64", "v/two=1");
  view->nodes[0].info.record.mutable_cdidevices(0)->set_name("v/new=1");
  auto all = ask<types::WorkerRecord>(describe_atom::value);
  REQUIRE((*all)->platforms_size() == 2);
  CHECK((*all)->platforms(0).architecture() == "amd64");
  REQUIRE((*all)->cdidevices_size() == 2);
  CHECK((*all)->cdidevices(0).name() == "v/new=1");
  auto op = exec("use");
  op.mutable_exec()->add_cdidevices()->set_name("v/new=1");
  CHECK(run(op, "linux/arm64")->ok());
  CHECK(b.script->ran == std::vector<std::string>{"use"});
}

TEST_CASE_METHOD(dispatcher_fixture,
                 "caches are empty on every node that is left before a step may use them") {
  auto& b = join("b", "linux/amd64");
  auto& c = join("c", "linux/amd64");
  b.script->holds_prunes = c.script->holds_prunes = true;
  prune_caches r;
  r.ids["cache"] = true;
  auto pruned = ask<bool>(r);
  CHECK((b.script->pruned == 1 && c.script->pruned == 1 && nodes["a"].script->pruned == 1));
  CHECK(pruned.open());
  caf::anon_send(b.worker, release_atom::value, "everything held");
  sched.run();
  CHECK(pruned.open());
  leave("c");
  REQUIRE(!pruned.open());
  CHECK(pruned->ok());
}

TEST_CASE_METHOD(dispatcher_fixture, "a build is told what there is when nobody has joined in time") {
  auto early = ask<types::WorkerRecord>(describe_atom::value);
  pass(limits::join_time);
  REQUIRE(!early.open());
  CHECK((*early)->platforms_size() == 1);
}
