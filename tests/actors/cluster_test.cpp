#include "actors/cluster/cluster.hpp"

#include <catch2/catch.hpp>
#include <spdlog/spdlog.h>

#include "actors/cluster/inbound_worker.hpp"
#include "actors/cluster/remote_worker.hpp"
#include "actors/handle_rest.hpp"
#include "fakes.hpp"

using namespace kiln;
using namespace kiln::test;
using namespace std::chrono_literals;

namespace {

struct cluster_test_config : test_config {
  cluster_test_config() { add_message_types<caf::id_block::kiln_cluster>(); }
};

/// What a listener heard, in order: "+b", "-b".
struct news {
  std::vector<std::string> all;
  std::map<std::string, peer_worker_actor> workers;
  std::map<std::string, node_load> loads;
};

members_listener::behavior_type listener(members_listener::pointer, std::shared_ptr<news> heard) {
  return {
      [heard](join_atom, node_info& info, const peer_worker_actor& inbound_worker) {
        heard->all.push_back("+" + info.name);
        heard->workers[info.name] = inbound_worker;
      },
      [heard](node_load& load, const std::string& node) { heard->loads[node] = load; },
      [heard](leave_atom, const std::string& node) {
        heard->all.push_back("-" + node);
        heard->workers.erase(node);
      },
  };
}

/// Nodes in one actor system, on a scheduler that runs one message at a time, in virtual time.
struct cluster_fixture {
  struct node {
    node_info info;
    cluster_actor actor;
    std::shared_ptr<worker_script> script = std::make_shared<worker_script>();
    worker_actor worker;
    std::shared_ptr<memory_cache_keys> keys = std::make_shared<memory_cache_keys>();
    std::shared_ptr<news> heard = std::make_shared<news>();
    members_listener listener;
    bool unreachable = false;  // dials to it fail
  };

  cluster_test_config config;
  caf::actor_system system{config};
  test::stepped_scheduler& sched = test::stepped_scheduler::of(system);
  std::shared_ptr<actors::job_pool> inline_pool = std::make_shared<actors::job_pool>(0);
  std::map<std::string, node> nodes;
  std::map<std::string, std::string> at;                  // address → key of nodes
  std::map<std::string, std::vector<std::string>> names;  // DNS
  std::uint64_t instances = 100;

  cluster_fixture() { spdlog::set_level(spdlog::level::off); }
  ~cluster_fixture() {
    for (auto& [key, n] : nodes) stop(n);
    nodes.clear();
    sched.run();
  }

  void stop(node& n) {
    caf::anon_send_exit(n.actor, caf::exit_reason::user_shutdown);
    caf::anon_send_exit(n.worker, caf::exit_reason::user_shutdown);
    caf::anon_send_exit(n.listener, caf::exit_reason::user_shutdown);
    n.actor = nullptr;
    n.worker = nullptr;
    n.listener = nullptr;
    n.heard->workers.clear();
    sched.run();
  }

  node_info info_of(const std::string& name, const std::string& address) {
    node_info info;
    info.name = name;
    info.instance = ++instances;
    info.version = "1";
    info.control_address = address + ":7000";
    info.data_address = address + ":7001";
    info.slots = 4;
    info.record.set_id("worker of " + name);
    return info;
  }

  node& start(const std::string& key, std::vector<std::string> seeds,
              const std::function<void(actors::cluster_options&)>& change = {}) {
    auto& n = nodes[key];
    n.info = info_of(key, key);
    n.worker = system.spawn(fake_worker, n.script);
    actors::cluster_options o;
    o.self = n.info;
    o.seeds = std::move(seeds);
    o.dial = [this](const std::string& address) -> result<node_actor> {
      auto found = at.find(address);
      if (found == at.end() || nodes[found->second].unreachable || !nodes[found->second].actor)
        return make_error(errc::unavailable, "connection refused");
      return node_actor(nodes[found->second].actor);
    };
    o.resolve = [this](const std::string& seed) -> result<std::vector<std::string>> {
      auto found = names.find(seed);
      if (found != names.end()) return found->second;
      if (seed.starts_with("unknown")) return make_error(errc::not_found, "no such host");
      return std::vector<std::string>{seed};
    };
    o.worker = [worker = n.worker] { return worker; };
    o.keys = n.keys.get();
    o.seed = instances;
    o.dials = o.io = inline_pool;
    if (change) change(o);
    n.info = o.self;
    at[n.info.control_address] = key;
    n.actor = system.spawn(actors::cluster, o);
    n.listener = system.spawn(listener, n.heard);
    caf::anon_send(n.actor, join_atom::value, n.listener);
    sched.run();
    return n;
  }

  void pass(std::chrono::nanoseconds time) {
    for (; time.count() > 0; time -= 100ms) {
      sched.advance_time(100ms);
      sched.run();
    }
  }

  template <class T, class Handle, class... Args>
  result<T> ask(const Handle& who, Args... args) {
    auto out = std::make_shared<std::optional<result<T>>>();
    system.spawn(
        [=](caf::event_based_actor* self, caf::unit_t) {
          self->request(who, caf::infinite, args...)
              .then([=](T& value) { *out = result<T>(value); },
                    [=](caf::error& e) { *out = result<T>(from_caf(e)); });
        },
        caf::unit);
    sched.run();
    if (!*out) return make_error(errc::deadline_exceeded, "no answer yet");
    return **out;
  }

  cluster_view view(const std::string& key) {
    return ask<cluster_view>(nodes[key].actor, list_atom::value).value();
  }
  /// "b up, c down"
  std::string states(const std::string& key) {
    std::string out;
    for (const auto& n : view(key).nodes)
      if (n.state != "self")
        out += (out.empty() ? "" : ", ") + (n.info.name.empty() ? n.info.control_address : n.info.name) +
               " " + n.state;
    return out;
  }
  std::string reason(const std::string& key, std::size_t index = 1) {
    return view(key).nodes.at(index).reason;
  }
};

/// A node played by the test: says hello and answers what the test lets it.
struct puppet {
  std::function<caf::result<link_heartbeat>(link_heartbeat&)> on_heartbeat;
  std::function<caf::result<cache_records>(cache_query&)> on_question;
  std::function<types::WorkerRecord()> on_describe;
  int questions = 0;
  std::uint64_t link = 0;
  std::optional<error> refused;
  bool open = false;
  peer_worker_actor inbound_worker;  // of the other side
};

using say_atom = caf::atom_constant<caf::atom("say")>;
using puppet_actor = node_actor::extend<caf::reacts_to<say_atom, caf::actor, link_hello, peer_worker_actor>,
                                        caf::reacts_to<say_atom, caf::actor, link_heartbeat>>;

puppet_actor::behavior_type play(puppet_actor::pointer self, std::shared_ptr<puppet> p, node_info info) {
  return {
      [=](hello_atom, link_hello& hello, const caf::strong_actor_ptr&,
          const peer_worker_actor& inbound_worker) -> caf::result<link_hello, peer_worker_actor> {
        p->inbound_worker = inbound_worker;
        return {link_hello{info, hello.link, {}}, inbound_worker};
      },
      [=](link_heartbeat& b) -> caf::result<link_heartbeat> {
        if (p->on_heartbeat) return p->on_heartbeat(b);
        return link_heartbeat{b.link, {}, {}};
      },
      [=](cache_query& q) -> caf::result<cache_records> {
        ++p->questions;
        if (p->on_question) return p->on_question(q);
        return self->make_response_promise<cache_records>();
      },
      [=](describe_atom) -> caf::result<types::WorkerRecord> {
        if (p->on_describe) return p->on_describe();
        return self->make_response_promise<types::WorkerRecord>();
      },
      [](drain_atom) { return true; },
      [=](leave_atom, std::uint64_t, const std::string&) { p->open = false; },
      [=](say_atom, const caf::actor& to, link_hello& hello, const peer_worker_actor& inbound_worker) {
        self->request(caf::actor_cast<node_actor>(to), caf::infinite, hello_atom::value, hello,
                      caf::actor_cast<caf::strong_actor_ptr>(self), inbound_worker)
            .then(
                [=](link_hello& answer, const peer_worker_actor& theirs) {
                  p->open = true;
                  p->link = answer.link;
                  p->inbound_worker = theirs;
                },
                [=](caf::error& e) { p->refused = from_caf(e); });
      },
      [=](say_atom, const caf::actor& to, link_heartbeat& heartbeat) {
        self->request(caf::actor_cast<node_actor>(to), caf::infinite, heartbeat)
            .then([=](link_heartbeat&) { p->refused.reset(); },
                  [=](caf::error& e) { p->refused = from_caf(e); });
      },
  };
}

cache_query question_of(std::string root) {
  cache_query q;
  q.roots = {std::move(root)};
  return q;
}

}  // namespace

TEST_CASE("nodes that share a seed become a full mesh with one link each") {
  cluster_fixture f;
  f.start("a", {"a:7000"});
  f.start("b", {"a:7000"});
  f.start("c", {"a:7000"});
  f.pass(3s);
  CHECK(f.states("a") == "b up, c up");
  CHECK(f.states("b") == "a up, c up");
  CHECK(f.states("c") == "a up, b up");
  CHECK(f.nodes["b"].heard->all == std::vector<std::string>{"+a", "+c"});
  CHECK(f.nodes["c"].heard->all == std::vector<std::string>{"+a", "+b"});
}

TEST_CASE(
    "a name that resolves to all nodes, this one among them, is a seed; one that resolves to nothing is "
    "tried again") {
  cluster_fixture f;
  f.names["kiln:7000"] = {"a:7000", "b:7000", "10.0.0.1:7000"};
  f.at["10.0.0.1:7000"] = "a";  // a under another address
  f.start("a", {"kiln:7000", "unknown:7000"});
  f.start("b", {"kiln:7000"});
  f.pass(2s);
  CHECK(f.states("a") == "b up, unknown:7000 down");
  CHECK(f.states("b") == "a up");
  f.names["unknown:7000"] = {"c:7000"};
  f.start("c", {});
  f.pass(12s);
  CHECK(f.states("a") == "b up, c up");
  CHECK(f.states("c") == "a up, b up");
}

TEST_CASE("two nodes that dial each other at once keep one link") {
  cluster_fixture f;
  f.nodes["b"].unreachable = true;
  f.start("a", {"b:7000"});
  f.start("b", {"a:7000"}, [&](actors::cluster_options& o) {
    o.dial = [inner = o.dial, &f](const std::string& address) -> result<node_actor> {
      f.nodes["b"].unreachable = false;
      return inner(address);
    };
  });
  f.pass(5s);
  CHECK(f.states("a") == "b up");
  CHECK(f.states("b") == "a up");
  auto before = f.nodes["a"].heard->all.size();
  f.pass(10s);
  CHECK(f.nodes["a"].heard->all.size() == before);
}

TEST_CASE(
    "a frozen node is dead after the limit, its clients are forgotten, and it comes back as a new "
    "inbound_worker") {
  cluster_fixture f;
  f.start("a", {});
  auto p = std::make_shared<puppet>();
  bool answers = true;
  p->on_heartbeat = [&](link_heartbeat& b) -> caf::result<link_heartbeat> {
    if (answers) return link_heartbeat{b.link, {}, {}};
    return to_caf(make_error(errc::unknown, "as if nothing came"));
  };
  auto z = f.system.spawn(play, p, f.info_of("z", "z"));
  auto worker = f.system.spawn(fake_worker, std::make_shared<worker_script>());
  auto a = f.nodes["a"].actor;
  auto hello = link_hello{f.info_of("z", "z"), 7, {}};
  caf::anon_send(z, say_atom::value, caf::actor_cast<caf::actor>(a), hello, peer_worker_actor(worker));
  f.sched.run();
  REQUIRE(p->open);
  f.pass(10s);
  CHECK(f.states("a") == "z up");

  // Somebody over there runs a step here.
  f.nodes["a"].script->hold = true;
  auto remote_worker = f.system.spawn(
      [](caf::event_based_actor*, caf::unit_t) -> caf::behavior { return {[](int) {}}; }, caf::unit);
  {
    run_request r;
    r.op.op.mutable_exec()->mutable_meta()->add_args("held");
    auto progress = f.system.spawn(collector, std::make_shared<progress_log>());
    caf::send_as(remote_worker, p->inbound_worker, r, progress);
    f.sched.run();
    caf::anon_send_exit(progress, caf::exit_reason::user_shutdown);
  }
  REQUIRE(f.nodes["a"].script->held.size() == 1);

  answers = false;
  auto old_worker = p->inbound_worker;
  f.pass(4s);
  CHECK(f.states("a").starts_with("z down"));
  CHECK(f.reason("a") == "no heartbeat for 3s");
  CHECK(f.nodes["a"].heard->all == std::vector<std::string>{"+z", "-z"});
  CHECK(f.nodes["a"].script->held.empty());
  CHECK(f.nodes["a"].script->cancelled == std::vector<std::string>{"held"});

  // It wakes up: its old link is not open any more, a new one is.
  caf::anon_send(z, say_atom::value, caf::actor_cast<caf::actor>(a), link_heartbeat{7, {}, {}});
  f.sched.run();
  REQUIRE(p->refused);
  CHECK(p->refused->code == errc::not_found);
  answers = true;
  hello.link = 8;
  caf::anon_send(z, say_atom::value, caf::actor_cast<caf::actor>(a), hello, peer_worker_actor(worker));
  f.sched.run();
  CHECK(f.states("a") == "z up");
  CHECK(p->inbound_worker != old_worker);
  CHECK(f.nodes["a"].heard->all == std::vector<std::string>{"+z", "-z", "+z"});
  for (const auto& actor :
       {caf::actor_cast<caf::actor>(z), caf::actor_cast<caf::actor>(worker), remote_worker})
    caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
  p->inbound_worker = nullptr;
}

TEST_CASE("a node that dies is down at once and found again when it is back") {
  cluster_fixture f;
  f.start("a", {});
  f.start("b", {"a:7000"});
  REQUIRE(f.states("a") == "b up");
  f.stop(f.nodes["b"]);
  CHECK(f.states("a") == "b down");
  CHECK(f.reason("a") == "it shut down");
  f.nodes.erase("b");
  f.start("b", {});
  f.pass(12s);
  CHECK(f.states("a") == "b up");
  CHECK(f.states("b") == "a up");
}

TEST_CASE("a node of another version is refused, and both say why") {
  cluster_fixture f;
  f.start("a", {});
  f.start("b", {"a:7000"}, [](actors::cluster_options& o) { o.self.version = "2"; });
  f.pass(2s);
  CHECK(f.states("a") == "b refused");
  CHECK(f.reason("a") ==
        "node b runs Kiln 2, node a runs 1: all nodes of a cluster must run the same version");
  CHECK(f.states("b") == "a:7000 refused");
  CHECK(f.reason("b") == f.reason("a"));
  CHECK(f.nodes["a"].heard->all.empty());
}

TEST_CASE("of two nodes with one name the one that is up stays") {
  cluster_fixture f;
  f.start("a", {});
  f.start("b", {"a:7000"});
  f.start("thief", {"a:7000"}, [](actors::cluster_options& o) { o.self.name = "b"; });
  f.start("double", {"a:7000"}, [](actors::cluster_options& o) { o.self.name = "a"; });
  f.pass(3s);
  CHECK(f.states("a") == "b up, a refused, b refused");
  CHECK(f.reason("a", 2) == "two nodes are called a: the one at a:7000 and the one at double:7000");
  CHECK(f.reason("a", 3) ==
        "two nodes are called b: the one at b:7000, which is up, and the one at thief:7000");
  CHECK(f.nodes["a"].heard->all == std::vector<std::string>{"+b"});
  CHECK(f.states("b").starts_with("a up"));
}

TEST_CASE("a drained node takes no new work, keeps what it has, and leaves when that is gone") {
  cluster_fixture f;
  auto& a = f.start("a", {});
  auto& b = f.start("b", {"a:7000"});
  f.pass(1s);
  auto inbound_worker = a.heard->workers.at("b");
  auto client = f.system.spawn(
      [](caf::event_based_actor*, caf::unit_t) -> caf::behavior { return {[](bool) {}}; }, caf::unit);
  b.script->refs.insert("kept");
  caf::send_as(client, inbound_worker, pin_atom::value, std::string("kept"));
  // Who only passes on what it knows has nothing here, and is not waited for.
  auto gossip = f.system.spawn(
      [](caf::event_based_actor*, caf::unit_t) -> caf::behavior { return {[](bool) {}}; }, caf::unit);
  caf::send_as(gossip, inbound_worker, remember_atom::value, cache_records{});
  caf::send_as(gossip, inbound_worker, prune_caches{});
  f.sched.run();

  CHECK(f.ask<bool>(a.actor, drain_atom::value, std::string("b")).ok());
  f.sched.run();
  CHECK(f.states("a") == "b draining");
  CHECK(a.heard->loads.at("b").draining);
  auto progress = f.system.spawn(collector, std::make_shared<progress_log>());
  run_request work;
  work.op.op.mutable_source()->set_identifier("x");
  auto refused = f.ask<run_reply>(inbound_worker, work, progress);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code == errc::unavailable);
  CHECK(refused.error().message == "node b is draining");
  f.pass(30s);
  CHECK(f.states("a") == "b draining");

  caf::anon_send_exit(client, caf::exit_reason::user_shutdown);
  f.sched.run();
  f.pass(1s);
  CHECK(f.states("a") == "b down");
  CHECK(f.reason("a").find("drained") != std::string::npos);
  f.pass(20s);
  CHECK(f.states("a") == "b down");
  CHECK_FALSE(f.ask<bool>(a.actor, drain_atom::value, std::string("nobody")).ok());
  caf::anon_send_exit(gossip, caf::exit_reason::user_shutdown);
  caf::anon_send_exit(progress, caf::exit_reason::user_shutdown);
}

TEST_CASE("a drained node leaves after its grace whatever is left") {
  cluster_fixture f;
  auto& a = f.start("a", {});
  f.start("b", {"a:7000"}, [](actors::cluster_options& o) { o.drain_grace = 2s; });
  auto client = f.system.spawn(
      [](caf::event_based_actor*, caf::unit_t) -> caf::behavior { return {[](bool) {}}; }, caf::unit);
  f.nodes["b"].script->refs.insert("kept");
  caf::send_as(client, a.heard->workers.at("b"), pin_atom::value, std::string("kept"));
  f.sched.run();
  auto answer = std::make_shared<std::optional<bool>>();
  f.system.spawn(
      [answer, b = f.nodes["b"].actor](caf::event_based_actor* self, caf::unit_t) {
        self->request(b, caf::infinite, drain_atom::value, done_atom::value).then([answer](bool clean) {
          *answer = clean;
        });
      },
      caf::unit);
  f.sched.run();
  f.pass(1s);
  CHECK_FALSE(*answer);
  f.pass(2s);
  REQUIRE(*answer);
  CHECK_FALSE(**answer);
  CHECK(f.states("a") == "b down");
  caf::anon_send_exit(client, caf::exit_reason::user_shutdown);
}

TEST_CASE("a coordinator's inbound worker runs nothing, and looks at what lies there") {
  cluster_fixture f;
  auto& a = f.start("a", {});
  f.start("b", {"a:7000"}, [](actors::cluster_options& o) { o.self.role = node_role::coordinator; });
  auto progress = f.system.spawn(collector, std::make_shared<progress_log>());
  run_request work;
  work.op.op.mutable_source()->set_identifier("x");
  auto refused = f.ask<run_reply>(a.heard->workers.at("b"), work, progress);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().message == "node b coordinates only");
  checksum_request look;
  look.ref = "a source of its builds";
  CHECK(f.ask<digest>(a.heard->workers.at("b"), look, progress).ok());
  CHECK(f.ask<bool>(a.heard->workers.at("b"), prune_caches{}).ok());
  caf::anon_send_exit(progress, caf::exit_reason::user_shutdown);
}

TEST_CASE("peers are asked what they know, with ids that say where") {
  cluster_fixture f;
  auto& a = f.start("a", {});
  auto& b = f.start("b", {"a:7000"});
  cache_records batch;
  batch.links.push_back({"root", {0, 0, "sha256:op", ""}, "child"});
  batch.results = {{"root", {"r1", 1}},
                   {"child", {"r2", 2}},
                   {"child", {"a!mine", 3}},
                   {"child", {"scratch", 4}},
                   {"random:x", {"r3", 5}}};
  REQUIRE(b.keys->add(batch).ok());
  cache_query q;
  q.roots = {"root", "random:x"};
  q.links = {{"root", {0, 0, "sha256:op", ""}, ""}, {"root", {0, 1, "sha256:op", ""}, ""}};
  auto facts = f.ask<cache_records>(a.actor, ask_peers_atom::value, q);
  REQUIRE(facts.ok());
  REQUIRE(facts->links.size() == 1);
  CHECK(facts->links[0].child == "child");
  std::set<std::pair<std::string, std::string>> results;
  for (const auto& r : facts->results) results.emplace(r.key, r.result.id);
  CHECK(results == std::set<std::pair<std::string, std::string>>{
                       {"root", "b!r1"}, {"child", "b!r2"}, {"child", "mine"}, {"child", "scratch"}});
}

TEST_CASE("a peer that is slow to answer is not waited for again until a heartbeat was quick") {
  cluster_fixture f;
  auto& a = f.start("a", {});
  f.start("b", {"a:7000"});
  REQUIRE(f.nodes["b"].keys->add({{}, {{"root", {"r1", 1}}}}).ok());
  auto p = std::make_shared<puppet>();
  bool quick = false;
  p->on_heartbeat = [&](link_heartbeat& b) -> caf::result<link_heartbeat> {
    if (quick) return link_heartbeat{b.link, {}, {}};
    return to_caf(make_error(errc::unknown, "slow"));
  };
  auto z = f.system.spawn(play, p, f.info_of("z", "z"));
  auto worker = f.system.spawn(fake_worker, std::make_shared<worker_script>());
  caf::anon_send(z, say_atom::value, caf::actor_cast<caf::actor>(a.actor),
                 link_hello{f.info_of("z", "z"), 7, {}}, peer_worker_actor(worker));
  f.sched.run();
  REQUIRE(p->open);

  auto out = std::make_shared<std::optional<cache_records>>();
  f.system.spawn(
      [=, a = a.actor](caf::event_based_actor* self, caf::unit_t) {
        self->request(a, caf::infinite, ask_peers_atom::value, question_of("root"))
            .then([=](cache_records& facts) { *out = facts; });
      },
      caf::unit);
  f.sched.run();
  CHECK_FALSE(*out);
  f.pass(300ms);
  REQUIRE(*out);
  CHECK((*out)->results.size() == 1);
  CHECK(p->questions == 1);
  // At once now: nobody waits for z.
  auto next = f.ask<cache_records>(a.actor, ask_peers_atom::value, question_of("root"));
  REQUIRE(next.ok());
  CHECK(next->results.size() == 1);
  CHECK(p->questions == 1);
  quick = true;
  p->on_question = [](cache_query&) -> caf::result<cache_records> { return cache_records{}; };
  f.pass(1s);
  CHECK(f.ask<cache_records>(a.actor, ask_peers_atom::value, question_of("root")).ok());
  CHECK(p->questions == 2);
  caf::anon_send_exit(z, caf::exit_reason::user_shutdown);
  caf::anon_send_exit(worker, caf::exit_reason::user_shutdown);
  p->inbound_worker = nullptr;
}

TEST_CASE("peers are asked what their workers are now; who is slow is as it was") {
  cluster_fixture f;
  auto& a = f.start("a", {});
  auto& b = f.start("b", {"a:7000"});
  f.start("c", {"a:7000"});
  auto record_of = [&](const std::string& node) {
    auto nodes = f.ask<cluster_view>(a.actor, ask_peers_atom::value, describe_atom::value).value().nodes;
    auto found = std::find_if(nodes.begin(), nodes.end(), [&](const auto& n) { return n.info.name == node; });
    REQUIRE(found != nodes.end());
    return found->info.record;
  };
  b.script->record.set_id("worker of b");
  b.script->record.add_cdidevices()->set_name("v/one=1");
  f.nodes["c"].script->record.set_id("worker of c");
  CHECK(record_of("b").cdidevices_size() == 1);
  CHECK(record_of("c").id() == "worker of c");
  // What others asked of the node is not on it any more.
  b.script->silent = true;
  auto asked = f.ask<cluster_view>(a.actor, ask_peers_atom::value, describe_atom::value);
  CHECK(asked.error().code == errc::deadline_exceeded);  // of this test: it waits for b
  f.pass(300ms);
  CHECK(record_of("b").cdidevices_size() == 1);
  // Nobody can make it keep a huge one.
  b.script->silent = false;
  b.script->record.set_id(std::string(configs::cluster::record_bytes_max + 1, 'x'));
  f.pass(600ms);
  CHECK(record_of("b").id() == "worker of b");
}

TEST_CASE("a peer that lies disturbs nobody") {
  cluster_fixture f;
  auto& a = f.start("a", {});
  f.start("b", {"a:7000"});
  auto p = std::make_shared<puppet>();
  auto z = f.system.spawn(play, p, f.info_of("z", "z"));
  auto worker = f.system.spawn(fake_worker, std::make_shared<worker_script>());
  auto refused = [&](const std::function<void(node_info&)>& lie) {
    link_hello hello{f.info_of("z", "z"), 7, {}};
    lie(hello.from);
    p->refused.reset();
    caf::anon_send(z, say_atom::value, caf::actor_cast<caf::actor>(a.actor), hello,
                   peer_worker_actor(worker));
    f.sched.run();
    return p->refused ? p->refused->message : "taken";
  };
  CHECK(refused([](node_info& i) { i.name = "no name!"; }) == "not a node of a cluster: its name is not one");
  CHECK(refused([](node_info& i) { i.role = static_cast<node_role>(9); }) ==
        "not a node of a cluster: it has no role");
  CHECK(refused([](node_info& i) { i.slots = 1'000'000; }) ==
        "not a node of a cluster: it claims 1000000 slots");
  CHECK(refused([](node_info& i) { i.control_address = std::string(100'000, 'x'); }) ==
        "not a node of a cluster: it has no valid address");
  CHECK(refused([](node_info& i) { i.record.set_id(std::string(2 << 20, 'x')); }) ==
        "not a node of a cluster: its worker's description is too large");

  link_hello good{f.info_of("z", "z"), 7, {}};
  for (int i = 0; i < 100'000; ++i) good.neighbours.push_back("host" + std::to_string(i) + ":1");
  caf::anon_send(z, say_atom::value, caf::actor_cast<caf::actor>(a.actor), good, peer_worker_actor(worker));
  f.sched.run();
  REQUIRE(p->open);
  CHECK(f.view("a").nodes.size() <= 3 + configs::cluster::addresses_max);

  // Links of others, and made up ones.
  for (std::uint64_t id : {std::uint64_t{0}, std::uint64_t{8}, ~std::uint64_t{0}}) {
    caf::anon_send(z, say_atom::value, caf::actor_cast<caf::actor>(a.actor), link_heartbeat{id, {}, {}});
    f.sched.run();
    REQUIRE(p->refused);
    CHECK(p->refused->code == errc::not_found);
  }
  // Answers beyond all bounds, or placed nowhere, are not taken.
  p->on_question = [](cache_query&) -> caf::result<cache_records> {
    cache_records facts;
    facts.results = {{"root", {"bad name!x", 0}},
                     {"root", {std::string(10'000, 'x'), 0}},
                     {"root", {"!x", 0}},
                     {"root", {"ok", 0}}};
    return facts;
  };
  auto facts = f.ask<cache_records>(a.actor, ask_peers_atom::value, question_of("root"));
  REQUIRE(facts.ok());
  REQUIRE(facts->results.size() == 1);
  CHECK(facts->results[0].result.id == "z!ok");
  p->on_question = [](cache_query&) -> caf::result<cache_records> {
    cache_records facts;
    facts.results.resize(configs::cluster::answer_results_max + 1);
    return facts;
  };
  facts = f.ask<cache_records>(a.actor, ask_peers_atom::value, question_of("root"));
  REQUIRE(facts.ok());
  CHECK(facts->results.empty());
  // Too large a question is an error.
  cache_query huge;
  huge.roots.resize(configs::cluster::question_roots_max + 1);
  CHECK(f.ask<cache_records>(a.actor, huge).error().code == errc::invalid_argument);
  CHECK(f.states("a").starts_with("b up, z up"));
  caf::anon_send_exit(z, caf::exit_reason::user_shutdown);
  caf::anon_send_exit(worker, caf::exit_reason::user_shutdown);
  p->inbound_worker = nullptr;
}

TEST_CASE("an inbound worker does steps and looks for other nodes, and nothing in their name") {
  cluster_fixture f;
  auto& a = f.start("a", {});
  f.start("b", {"a:7000"});
  auto inbound_worker = a.heard->workers.at("b");
  auto progress = f.system.spawn(collector, std::make_shared<progress_log>());
  run_request source;
  source.op.op.mutable_source()->set_identifier("docker-image://x");
  auto refused = f.ask<run_reply>(inbound_worker, source, progress);
  CHECK((!refused.ok() && refused.error().code == errc::permission_denied));
  // It has no ears for the rest, whatever a handle claims it to be.
  auto as_worker = caf::actor_cast<worker_actor>(inbound_worker);
  key_request key;
  key.op.op.mutable_source()->set_identifier("https://inside/");
  CHECK_FALSE(f.ask<key_reply>(as_worker, key, progress).ok());
  CHECK_FALSE(f.ask<gw::ResolveSourceMetaResponse>(as_worker, session_group{{"s"}},
                                                   gw::ResolveSourceMetaRequest{}, progress)
                  .ok());
  CHECK_FALSE(f.ask<export_reply>(as_worker, export_request{}, progress).ok());
  CHECK_FALSE(f.ask<bool>(as_worker, cache_import{}, progress).ok());
  CHECK_FALSE(f.ask<types::WorkerRecord>(as_worker, describe_atom::value).ok());  // its node says that
  run_request step;
  step.op.op.mutable_exec()->mutable_meta()->add_args("true");
  CHECK(f.ask<run_reply>(inbound_worker, step, progress).ok());
  caf::anon_send_exit(progress, caf::exit_reason::user_shutdown);
}

TEST_CASE("a node whose certificate is for another name is no node, whoever dials") {
  for (bool dials : {true, false}) {
    cluster_fixture f;
    auto strict = [](actors::cluster_options& o) {
      o.misnamed = [](const caf::node_id&, const std::string& name) -> std::string {
        return name == "b" ? "is for c, not for node b" : "";
      };
    };
    f.start("a", dials ? std::vector<std::string>{"b:7000"} : std::vector<std::string>{}, strict);
    f.start("b", dials ? std::vector<std::string>{} : std::vector<std::string>{"a:7000"});
    f.pass(1s);
    CHECK(f.states("a").find("b up") == std::string::npos);
    CHECK(f.reason("a").find("the certificate of the node at b:7000 is for c, not for node b") !=
          std::string::npos);
    CHECK(f.nodes["a"].heard->workers.empty());
  }
}

TEST_CASE("a remote worker passes on what the worker says of its own step, and nothing of others") {
  cluster_fixture f;
  struct kept {
    progress_actor listener;
  };
  auto seen = std::make_shared<kept>();
  auto worker = f.system.spawn(
      [seen](peer_worker_actor::pointer self, caf::unit_t) {
        return actors::handle_rest<peer_worker_actor>(
            [self, seen]<class Reply, class... Parts>(Parts&&... parts) -> caf::result<Reply> {
              (
                  [&] {
                    if constexpr (std::is_same_v<std::decay_t<Parts>, progress_actor>) seen->listener = parts;
                  }(),
                  ...);
              return self->make_response_promise<Reply>();
            },
            [](auto&&...) {});
      },
      caf::unit);
  auto log = std::make_shared<progress_log>();
  auto listener = f.system.spawn(collector, log);
  auto vertex = f.system.spawn(
      [](caf::event_based_actor*, caf::unit_t) -> caf::behavior { return {[](run_reply&) {}}; }, caf::unit);
  auto remote_worker = f.system.spawn(
      actors::remote_worker,
      actors::remote_worker_options{worker, caf::actor_cast<caf::strong_actor_ptr>(vertex), "b"});
  run_request step;
  step.op.vertex = "mine";
  step.owners["image"] = "base";  // it brings that vertex's layers to the disk
  caf::send_as(vertex, remote_worker, step, listener);
  f.sched.run();
  REQUIRE(seen->listener);
  CHECK(seen->listener != listener);
  ctl::StatusResponse told;
  told.add_logs()->set_vertex("mine");
  told.add_logs()->set_vertex("another");
  told.add_statuses()->set_vertex("another");
  told.add_warnings()->set_vertex("mine");
  for (const char* vertex : {"mine", "base", "another"}) {
    auto& begun = *told.add_vertexes();
    begun.set_digest(vertex);
    begun.mutable_started()->set_seconds(7);
    begun.set_name("by another name");
    begun.set_error("it says");
  }
  told.add_statuses()->set_vertex("base");
  caf::anon_send(seen->listener, told);
  f.sched.run();
  int logs = 0, others = 0, of_base = 0;
  std::set<std::string> begun;
  for (const auto& s : log->all) {
    logs += s.logs_size() + s.warnings_size();
    for (const auto& v : s.statuses()) ++(v.vertex() == "base" ? of_base : others);
    for (const auto& l : s.logs()) CHECK(l.vertex() == "mine");
    for (const auto& v : s.vertexes()) {
      begun.insert(v.digest());
      CHECK((v.started().seconds() == 7 && v.name().empty() && v.error().empty()));
    }
  }
  CHECK(begun == std::set<std::string>{"base", "mine"});
  CHECK(of_base == 1);
  CHECK(logs == 2);
  CHECK(others == 0);
  seen->listener = nullptr;
  caf::anon_send_exit(vertex, caf::exit_reason::user_shutdown);
  caf::anon_send_exit(worker, caf::exit_reason::user_shutdown);
  caf::anon_send_exit(listener, caf::exit_reason::user_shutdown);
  f.sched.run();
}
