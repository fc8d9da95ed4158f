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
    for (auto name : {"a", "b", "c"}) p.put_node(node(name, slots), now);
  }
  std::uint64_t ask(const std::string& build, std::vector<std::string> inputs, bool credit = true) {
    p.submit({++last, build, std::move(inputs), credit, host_platform()}, now);
    return last;
  }
  std::string assigned() {
    std::string out;
    for (const auto& a : p.assign(now).starts) out += std::to_string(a.id) + "@" + a.node + " ";
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
  f.p.drop_node("b", f.now);
  f.p.drop_node("c", f.now);
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
  f.p.set_load("a", busy, f.now);
  f.ask("x", {});
  CHECK(f.assigned() == "1@b ");
}

TEST_CASE("Coordinators and draining nodes are given nothing; a step waits for a node that runs steps") {
  step_scheduler p("a");
  p.put_node(node("a", 2, node_role::coordinator), {});
  work_time now{1h};
  p.submit({1, "x", {}, true, host_platform()}, now);
  auto first = p.assign(now);
  CHECK(first.starts.empty());
  CHECK(first.lonely == std::vector<std::uint64_t>{1});
  REQUIRE(p.wake_at());
  CHECK(*p.wake_at() == now + limits::join_time);
  now += limits::join_time - 1s;
  CHECK(p.assign(now).lonely.empty());  // told once
  p.put_node(node("b", 2), now);
  CHECK(p.assign(now).starts.at(0).node == "b");
  node_load draining;
  draining.draining = true;
  p.set_load("b", draining, now);
  // What waited for a credit for long waits for another node as long as what has just come.
  p.submit({2, "x", {}, true, host_platform()}, now - 1h);
  CHECK(p.assign(now).lonely == std::vector<std::uint64_t>{2});
  now += limits::join_time;
  auto last = p.assign(now);
  CHECK((last.starts.empty() && last.given_up == std::vector<std::uint64_t>{2}));
  now += 1h;
  CHECK(p.assign(now).given_up.empty());
  CHECK(!p.wake_at());
}

TEST_CASE("A step that needs a device goes where it is, whatever else is free") {
  step_scheduler p("a");
  auto with = [](node_info n, const std::vector<std::string>& devices, bool auto_allowed) {
    for (const auto& name : devices) {
      auto& d = *n.record.add_cdidevices();
      d.set_name(name);
      d.set_autoallow(auto_allowed);
    }
    return n;
  };
  auto wanting = [](std::uint64_t id, const std::string& name, bool optional) {
    work_item item{id, "x", {}, true, host_platform()};
    auto& d = *item.privileges.mutable_exec()->add_cdidevices();
    d.set_name(name);
    d.set_optional(optional);
    return item;
  };
  p.put_node(with(node("a", 1), {"v/one=1"}, true), {});
  p.put_node(with(node("b", 1), {"v/one=1", "v/two=1"}, true), {});
  p.put_node(with(node("c", 1), {"v/two=1", "v/three=1"}, false), {});
  work_time now{1h};
  p.submit(wanting(1, "v/two=1", false), now);
  CHECK(p.assign(now).starts.at(0).node == "b");  // c has it, too, but lets nobody have it
  p.submit(wanting(2, "v/two=1", true), now);
  CHECK(p.assign(now).starts.empty());  // b is busy; elsewhere it would go without
  p.finish(1, now);
  CHECK(p.assign(now).starts.at(0).node == "b");
  p.submit(wanting(3, "v/three=1", false), now);
  CHECK(p.assign(now).given_up == std::vector<std::uint64_t>{3});
  p.submit(wanting(4, "v/three=1", true), now);
  CHECK(p.assign(now).starts.at(0).node == "a");
  // Devices come and go while nodes run.
  p.set_record("c", with(node("c", 1), {"v/three=1"}, true).record);
  p.submit(wanting(5, "v/three=1", false), now);
  CHECK(p.assign(now).starts.at(0).node == "c");
}

TEST_CASE("What executes runs on its platform, constraints hold for every step") {
  step_scheduler p("a");
  auto arm = node("arm", 1);
  to_proto(*parse_platform("linux/arm64"), *arm.record.add_platforms());
  (*arm.record.mutable_labels())["disk"] = "fast";
  auto amd = node("a", 1);
  to_proto(*parse_platform("linux/amd64"), *amd.record.add_platforms());
  p.put_node(arm, {});
  p.put_node(amd, {});
  work_time now{1h};
  p.submit({1, "x", {}, true, *parse_platform("linux/arm64")}, now);
  CHECK(p.assign(now).starts.at(0).node == "arm");
  p.submit({2, "x", {}, true, *parse_platform("linux/arm64")}, now);
  CHECK(p.assign(now).starts.empty());  // arm is busy, a is not asked
  p.finish(1, now);
  CHECK(p.assign(now).starts.at(0).node == "arm");
  p.finish(2, now);
  p.submit({3, "x", {}, false, *parse_platform("linux/arm64"), {"labels.disk==slow"}}, now);
  CHECK(p.assign(now).given_up == std::vector<std::uint64_t>{3});
  p.submit({4, "x", {}, true, *parse_platform("linux/arm64"), {"labels.disk==fast"}}, now);
  CHECK(p.assign(now).starts.at(0).node == "arm");
}

TEST_CASE("What only moves files needs no platform") {
  fixture f;
  for (auto name : {"a", "b", "c"}) {
    auto n = node(name, 2);
    to_proto(*parse_platform("linux/amd64"), *n.record.add_platforms());
    f.p.put_node(n, f.now);
  }
  f.p.submit({1, "x", {}, false, *parse_platform("linux/s390x")}, f.now);
  CHECK(f.assigned() == "1@a ");
}

TEST_CASE("A platform that nobody offers is tried as on a lone node, once nodes have ceased to come") {
  step_scheduler p("a");
  auto amd = node("a", 1);
  to_proto(*parse_platform("linux/amd64"), *amd.record.add_platforms());
  work_time now{1h};
  p.put_node(amd, now);
  p.submit({1, "x", {}, true, *parse_platform("linux/arm64")}, now);
  auto first = p.assign(now);
  CHECK((first.starts.empty() && first.lonely.size() == 1));
  now += limits::settle_time;
  CHECK(p.assign(now).starts.at(0).node == "a");
  p.finish(1, now);
  now += 1h;
  p.submit({2, "x", {}, true, *parse_platform("linux/arm64")}, now);
  CHECK(p.assign(now).starts.at(0).node == "a");  // at once
}

TEST_CASE(
    "A dead node's steps are told and its refs forgotten; avoided nodes serve when nobody else is left") {
  fixture f(1);
  f.p.learn("b!tree", 1 << 28, "b");
  f.ask("x", {"b!tree"});
  CHECK(f.assigned() == "1@b ");
  CHECK(f.p.drop_node("b", f.now) == std::vector<std::uint64_t>{1});
  f.ask("x", {"b!tree"});
  CHECK(f.assigned() == "2@a ");
  f.p.submit({9, "y", {}, true, host_platform(), {}, {"a", "c"}}, f.now);
  CHECK(f.assigned() == "9@c ");
}

TEST_CASE("A step goes where the configuration allows what it does beyond the sandbox") {
  fixture f;
  pb::Op op;
  op.mutable_exec()->set_security(pb::INSECURE);
  op.mutable_exec()->set_network(pb::HOST);
  work_item item{1, "x", {}, true, host_platform()};
  item.privileges = privileges_of(op);
  auto allow = [&](const std::string& name, const std::string& what) {
    auto n = node(name, 2);
    (*n.record.mutable_labels())[entitlements_label] = what;
    f.p.put_node(n, f.now);
  };
  allow("b", "network.host");
  f.p.submit(item, f.now);
  CHECK(f.assigned().empty());
  allow("c", "network.host,security.insecure");
  CHECK(f.assigned() == "1@c ");
  f.p.drop_node("c", f.now);
  item.id = 2;
  f.p.submit(item, f.now);
  f.now += 1h;
  CHECK(f.p.assign(f.now).given_up == std::vector<std::uint64_t>{2});
}
