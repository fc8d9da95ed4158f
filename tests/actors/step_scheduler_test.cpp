#include <catch2/catch.hpp>

#include "actors/cluster/step_scheduler.hpp"
#include "configs/placing.hpp"

using namespace kiln;
using namespace kiln::actors;
using namespace std::chrono_literals;

namespace limits = configs::placing;

namespace {

node_info node(const std::string& name, int slots, node_role role = node_role::both) {
  node_info n;
  n.name = name;
  n.slots = slots;
  n.role = role;
  return n;
}

struct fixture {
  step_scheduler p{"a"};
  work_time now{};
  std::uint64_t last = 0;

  explicit fixture(int slots = 2) {
    for (auto name : {"a", "b", "c"}) p.put_node(node(name, slots));
  }
  std::uint64_t ask(const std::string& build, std::vector<std::string> inputs, bool credit = true) {
    REQUIRE(p.submit({++last, build, std::move(inputs), credit, host_platform()}, now).ok());
    return last;
  }
  std::string assigned() {
    std::string out;
    for (const auto& a : p.assign(now)) out += std::to_string(a.id) + "@" + a.node + " ";
    return out;
  }
};

}  // namespace

TEST_CASE("Steps stay here while this node has credit, whatever the others have") {
  fixture f;
  f.ask("x", {});
  f.ask("x", {"base"});
  CHECK(f.assigned() == "1@a 2@a ");
}

TEST_CASE("A step moves only after it has waited as long as moving its inputs takes") {
  fixture f;
  f.p.learn("base", limits::bytes_per_second, "a");  // one second away
  f.ask("x", {"base"});
  f.ask("x", {"base"});
  f.ask("x", {"base"});
  CHECK(f.assigned() == "1@a 2@a ");
  REQUIRE(f.p.wake_at());
  CHECK(*f.p.wake_at() == f.now + 1s + limits::patience);
  f.now += 1s;
  CHECK(f.assigned().empty());
  f.now += limits::patience;
  CHECK(f.assigned() == "3@b ");
}

TEST_CASE("A credit that comes back in time keeps the step where its inputs are") {
  fixture f(1);
  f.p.learn("base", limits::bytes_per_second, "a");
  f.ask("x", {"base"});
  f.ask("x", {"base"});
  CHECK(f.assigned() == "1@a ");
  f.now += 50ms;
  f.p.finish(1, f.now);
  CHECK(f.assigned() == "2@a ");
}

TEST_CASE("A step is not moved when moving takes longer than steps run") {
  fixture f(1);
  f.p.learn("base", limits::bytes_per_second, "a");  // one second away
  for (int i = 1; i <= 100; ++i) {
    f.ask("x", {"base"});
    CHECK(f.assigned() == std::to_string(i) + "@a ");
    f.now += 20ms;
    f.p.finish(static_cast<std::uint64_t>(i), f.now);
  }
  f.ask("x", {"base"});
  f.ask("x", {"base"});
  f.ask("x", {});
  CHECK(f.assigned() == "101@a 103@b ");
  f.now += 10s;
  CHECK(f.assigned().empty());
}

TEST_CASE("A step follows its inputs to the node that has them") {
  fixture f;
  f.p.learn("b!big", 1 << 30, "b");
  f.p.learn("small", 1000, "a");
  f.ask("x", {"small", "b!big"});
  CHECK(f.assigned() == "1@b ");
  // A ref nobody has told about lies where its name says.
  f.ask("x", {"c!unknown"});
  CHECK(f.assigned() == "2@c ");
}

TEST_CASE("Inputs that cost nothing to move spread over the nodes at once") {
  fixture f(1);
  for (int i = 0; i < 4; ++i) f.ask("x", {});
  CHECK(f.assigned() == "1@a 2@b 3@c ");
  f.p.finish(2, f.now);
  CHECK(f.assigned() == "4@b ");
}

TEST_CASE("Builds take turns") {
  fixture f(1);
  f.p.drop_node("b");
  f.p.drop_node("c");
  for (int i = 0; i < 3; ++i) f.ask("greedy", {});
  f.ask("modest", {});
  CHECK(f.assigned() == "1@a ");
  f.p.finish(1, f.now);
  CHECK(f.assigned() == "4@a ");
  f.p.finish(4, f.now);
  CHECK(f.assigned() == "2@a ");
}

TEST_CASE("Work on files takes no credit and goes to its bytes at once") {
  fixture f(1);
  f.p.learn("b!tree", 1 << 28, "b");
  f.ask("x", {});
  f.ask("x", {"b!tree"}, false);
  f.ask("x", {}, false);
  CHECK(f.assigned() == "1@a 2@b 3@a ");
}

TEST_CASE("A node's own load counts, as far as it is known") {
  fixture f(2);
  node_load busy;
  busy.running = 2;
  f.p.set_load("a", busy);
  f.ask("x", {});
  CHECK(f.assigned() == "1@b ");
}

TEST_CASE("Coordinators and draining nodes are given nothing, and nobody at all is an error") {
  step_scheduler p("a");
  p.put_node(node("a", 2, node_role::coordinator));
  auto s = p.submit({1, "x", {}, true, host_platform()}, {});
  REQUIRE(!s.ok());
  CHECK(s.error().code == errc::failed_precondition);
  p.put_node(node("b", 2));
  node_load draining;
  draining.draining = true;
  p.set_load("b", draining);
  CHECK(!p.submit({2, "x", {}, true, host_platform()}, {}).ok());
  p.set_load("b", {});
  REQUIRE(p.submit({3, "x", {}, true, host_platform()}, {}).ok());
  CHECK(p.assign({}).at(0).node == "b");
}

TEST_CASE("A step that must stay where it was understood does, whatever else is free") {
  step_scheduler p("a");
  for (const char* name : {"a", "b"}) {
    auto n = node(name, 1);
    n.record.set_id(std::string("worker-") + name);
    (*n.record.mutable_labels())["disk"] = name;
    p.put_node(n);
  }
  auto item = [](std::uint64_t id, const std::vector<std::string>& constraints) {
    work_item out{id, "x", {}, true, host_platform(), constraints};
    keep_on(out, "worker-b");
    return out;
  };
  REQUIRE(p.submit(item(1, {}), {}).ok());
  CHECK(p.assign({}).at(0).node == "b");
  REQUIRE(p.submit(item(2, {"labels.disk==a", "labels.disk==b"}), {}).ok());
  CHECK(p.assign({}).empty());  // b is busy, a is not asked
  p.finish(1, {});
  CHECK(p.assign({}).at(0).node == "b");
  CHECK_FALSE(p.submit(item(3, {"labels.disk==a"}), {}).ok());
}

TEST_CASE("Platforms and constraints are honoured") {
  step_scheduler p("a");
  auto arm = node("arm", 1);
  to_proto(*parse_platform("linux/arm64"), *arm.record.add_platforms());
  (*arm.record.mutable_labels())["disk"] = "fast";
  auto amd = node("a", 1);
  to_proto(*parse_platform("linux/amd64"), *amd.record.add_platforms());
  p.put_node(arm);
  p.put_node(amd);
  REQUIRE(p.submit({1, "x", {}, true, *parse_platform("linux/arm64")}, {}).ok());
  CHECK(p.assign({}).at(0).node == "arm");
  CHECK(!p.submit({2, "x", {}, true, *parse_platform("linux/amd64"), {"labels.disk==fast"}}, {}).ok());
  p.finish(1, {});
  REQUIRE(p.submit({3, "x", {}, true, *parse_platform("linux/arm64"), {"labels.disk==fast"}}, {}).ok());
  CHECK(p.assign({}).at(0).node == "arm");
}

TEST_CASE(
    "A dead node's steps are told and its refs forgotten; avoided nodes serve when nobody else is left") {
  fixture f(1);
  f.p.learn("b!tree", 1 << 28, "b");
  f.ask("x", {"b!tree"});
  CHECK(f.assigned() == "1@b ");
  CHECK(f.p.drop_node("b") == std::vector<std::uint64_t>{1});
  f.ask("x", {"b!tree"});
  CHECK(f.assigned() == "2@a ");
  REQUIRE(f.p.submit({9, "y", {}, true, host_platform(), {}, {"a", "c"}}, f.now).ok());
  CHECK(f.assigned() == "9@c ");
}

TEST_CASE("A step goes where the configuration allows what it does beyond the sandbox") {
  fixture f;
  pb::Op op;
  op.mutable_exec()->set_security(pb::INSECURE);
  op.mutable_exec()->set_network(pb::HOST);
  work_item item{1, "x", {}, true, host_platform()};
  require_entitlements(item, op);
  CHECK_FALSE(f.p.submit(item, f.now).ok());
  auto allow = [&](const std::string& name, const std::string& what) {
    auto n = node(name, 2);
    (*n.record.mutable_labels())[entitlements_label] = what;
    f.p.put_node(n);
  };
  allow("b", "network.host");
  CHECK_FALSE(f.p.submit(item, f.now).ok());
  allow("c", "network.host,security.insecure");
  REQUIRE(f.p.submit(item, f.now).ok());
  f.now += 1h;
  CHECK(f.assigned() == "1@c ");
}
