// What passes the gate between nodes: all that honest nodes say, and nothing else.
#include <cstdlib>
#include <fstream>

#include <catch2/catch.hpp>

#include "node/basp_gate.hpp"
#include "basp_bytes.hpp"
#include "messages/actor_error.hpp"

using namespace kiln;
using namespace kiln::node;
using namespace kiln::test;

namespace {

struct caf_config : caf::actor_system_config {
  caf_config() {
    set("scheduler.max-threads", std::size_t{1});
    set("logger.console", caf::atom("none"));
    add_message_types<caf::id_block::kiln>();
    add_message_types<caf::id_block::kiln_cluster>();
  }
};

caf::actor_system& caf_system() {
  static caf_config config;
  static caf::actor_system system{config};
  return system;
}

const certificate_identity own{"own", {"a"}}, other{"other", {"b"}}, third{"third", {"c"}};

/// Node A's end of a connection that node B opened; A's cluster actor is 5, B's is 50.
struct wire {
  std::shared_ptr<basp_peers> peers;
  basp_gate gate;
  std::string passed;

  explicit wire(std::shared_ptr<basp_peers> p = std::make_shared<basp_peers>(own),
                certificate_identity who = other)
      : peers(p), gate(p, false, std::move(who)) {
    gate.take_out(server_handshake('A', 5));
  }
  status say(const std::string& frame) {
    passed.clear();
    return gate.take_in(frame, passed);
  }
  wire& up(char node = 'B') {
    auto s = say(client_handshake(node));
    if (!s.ok()) throw std::runtime_error(s.error().message);
    return *this;
  }
  /// A tells of an inbound worker, 6, in its answer to a hello.
  wire& with_worker() {
    gate.take_out(message(bytes()
                              .message("+kiln::link_hello+kiln::peer_worker_actor")
                              .value(caf_system(), link_hello{})
                              .handle('A', 6)
                              .str(),
                          5, 50, normal | response | 1));
    return *this;
  }
};

std::string hello() {
  return bytes()
      .message("+@atom+kiln::link_hello+@strong_actor_ptr+kiln::peer_worker_actor")
      .atom(hello_atom::value)
      .value(caf_system(), link_hello{{}, 7, {"host:1", "host:2"}})
      .handle('B', 50)
      .handle('B', 51)
      .str();
}
std::string beat() {
  return bytes().message("+kiln::link_heartbeat").value(caf_system(), link_heartbeat{}).str();
}
std::string run(char listener_node = 'B', std::uint64_t listener = 60) {
  run_request r;
  r.op.vertex = "sha256:x";
  r.op.op.mutable_exec()->mutable_meta()->add_args("true");
  r.inputs = {"one", "two"};
  return bytes()
      .message("+kiln::run_request+kiln::progress_actor")
      .value(caf_system(), r)
      .handle(listener_node, listener)
      .str();
}
std::string progress() {
  ctl::StatusResponse status;
  status.add_logs()->set_msg("text");
  return bytes().message("+kiln::ctl::StatusResponse").value(caf_system(), status).str();
}

template <class T>
void check_walk(std::string_view name, const T& x) {
  auto good = bytes().value(caf_system(), x).str();
  basp_walk all(good, 1'000, 3);
  CAPTURE(name);
  CHECK(walk_named(all, name));
  CHECK(all.at_end());
  // Nothing that is cut off is whole.
  for (std::size_t n = 0; n < good.size(); ++n) {
    basp_walk part(std::string_view(good).substr(0, n), 1'000, 3);
    if (walk_named(part, name) && part.at_end()) {
      FAIL(name << " is whole after " << n << " of " << good.size() << " bytes");
    }
  }
}

}  // namespace

TEST_CASE("what nodes say is walked over to its last byte, as CAF reads it") {
  check_walk("kiln::error", kiln::error{errc::not_found, "none", {{"type", "value"}}});
  check_walk("kiln::link_hello",
             link_hello{{"n", 1, "v", node_role::worker, "c", "d", 3, {}}, 9, {"x", "y"}});
  check_walk("kiln::link_heartbeat", link_heartbeat{1, {1, 2, true, 3, 4, 5, 6}, {"x"}});
  check_walk("kiln::cache_query", cache_query{{{"p", {1, 2, "d", "s"}, ""}}, {"r"}});
  check_walk("kiln::cache_records", cache_records{{{"p", {1, 2, "d", "s"}, "c"}}, {{"k", {"i", 4}}}});
  check_walk("kiln::run_reply", run_reply{{"a", "b"}, {1, -1}});
  check_walk("kiln::checksum_request",
             checksum_request{"v", "r", {{"p", true, false, {"i"}, {}, {}}}, {{"s"}}});
  check_walk("kiln::ref_scope", ref_scope{"r", {{"s1", "s2"}}});
  check_walk("kiln::prune_caches", prune_caches{{{"a", true}, {"b", false}}});
  check_walk("kiln::digest", sha256("x"));
  gw::ReadFileResponse file;
  file.set_data(std::string(1'000, 'x'));
  check_walk("kiln::gw::ReadFileResponse", file);
  run_request r;
  r.op.cache_mount_namespace = "n";
  r.inputs = {"a"};
  check_walk("kiln::run_request", r);
  check_walk("@str", std::string("text"));
  check_walk("@error", to_caf(make_error(errc::aborted, "why")));
  check_walk("@error", caf::error(caf::exit_reason::user_shutdown));
  check_walk("@error", caf::make_error(caf::sec::unknown_type, std::string("what")));
}

TEST_CASE("a link opens and lives: handshake, hello, beats, steps, answers, ends") {
  wire l;
  CHECK(l.say(client_handshake('B')).ok());
  CHECK(l.passed == client_handshake('B'));
  CHECK(l.say(client_handshake('B', 2)).ok());
  auto all = message(hello(), 50, 5, normal | 1) + message(beat(), 50, 5, normal | 2);
  CHECK(l.say(all).ok());
  CHECK(l.passed == all);
  l.with_worker();
  CHECK(l.say(message(run(), 61, 6, normal | 1)).ok());
  // A asks B; B answers, once.
  l.gate.take_out(message(beat(), 5, 50, normal | 9));
  CHECK(l.say(message(beat(), 50, 5, normal | response | 9)).ok());
  // A's step runs at B: an remote_worker, 70, asks and hears.
  l.gate.take_out(message(run('A', 70), 70, 51, normal | 1));
  CHECK(l.say(message(progress(), 80, 70)).ok());
  auto failed = bytes().message("+@error").value(caf_system(), to_caf(make_error(errc::aborted, "x"))).str();
  CHECK(l.say(message(failed, 51, 70, normal | response | 1)).ok());
  CHECK(l.say(frame(operation::monitor_message, bytes().node('B').node('A').str(), 0, 0, 70)).ok());
  auto end =
      bytes().node('B').node('A').value(caf_system(), caf::error(caf::exit_reason::user_shutdown)).str();
  CHECK(l.say(frame(operation::down_message, end, 0, 51)).ok());
  CHECK(l.say(frame(operation::heartbeat, "")).ok());
  CHECK(l.peers->names_of(caf::make_node_id(7, {{'B', 'B', 'B', 'B', 'B', 'B', 'B', 'B', 'B', 'B',
                                                 'B', 'B', 'B', 'B', 'B', 'B', 'B', 'B', 'B', 'B'}})) ==
        other.names);
}

TEST_CASE("a connection that comes in pieces is the same") {
  auto all = client_handshake('B') + message(hello(), 50, 5, normal | 1) + message(beat(), 50, 5);
  wire whole, pieces;
  CHECK(whole.say(all).ok());
  std::string passed;
  for (char c : all) REQUIRE(pieces.gate.take_in({&c, 1}, passed).ok());
  CHECK(passed == all);
  CHECK(whole.passed == all);
}

TEST_CASE("a node that dials sees the handshake of whom it dialled") {
  auto peers = std::make_shared<basp_peers>(own);
  basp_gate gate(peers, true, other);
  std::string passed;
  gate.take_out(client_handshake('A'));
  CHECK(gate.take_in(server_handshake('B', 50), passed).ok());
  gate.take_out(message(hello(), 5, 50, normal | 1));
  CHECK_FALSE(gate.take_in(server_handshake('B', 50), passed).ok());
}

TEST_CASE("whatever no honest node sends ends its connection") {
  auto refused = [](const std::string& what, const std::string& frames, wire& l) {
    auto s = l.say(frames);
    CAPTURE(what);
    CHECK_FALSE(s.ok());
    CHECK(l.passed.empty());
  };
  auto fresh = [&](const std::string& what, const std::string& frames) {
    wire l;
    l.up().with_worker();
    refused(what, frames, l);
  };
  // Categories and flags.
  for (std::uint64_t category : {0, 2, 3}) fresh("odd category", message(beat(), 50, 5, category << 60));
  fresh("answered", message(beat(), 50, 5, normal | 0x4000000000000000));
  fresh("flags", frame(operation::direct_message, beat(), normal, 50, 5, 4));
  fresh("routed",
        frame(operation::routed_message, bytes().node('B').node('C').raw(beat()).str(), normal, 50, 5));
  fresh("no operation", frame(static_cast<operation>(7), "", 0, 0, 0));
  fresh("padding", std::string(1, '\x02') + std::string(1, '\x01') + message(beat(), 50, 5).substr(2));
  // Nesting.
  fresh("200,000 messages", message(nested_messages(200'000), 50, 5));
  fresh("200,000 errors", message(nested(200'000), 50, 5));
  // CAF's own messages.
  fresh("exit",
        message(bytes().message("+@exit").handle('A', 5).value(caf_system(), caf::error()).str(), 50, 5));
  fresh("down",
        message(bytes().message("+@down").handle('A', 5).value(caf_system(), caf::error()).str(), 50, 5));
  for (auto a : {caf::atom("link"), caf::atom("unlink"), caf::atom("leave")})
    fresh("link", message(bytes().message("+@atom+@strong_actor_ptr").atom(a).handle('A', 5).str(), 50, 5));
  fresh("error", message(bytes().message("+@error").value(caf_system(), caf::error()).str(), 50, 5));
  fresh("nothing", message(bytes().message("").str(), 50, 5));
  fresh("unknown type", message(bytes().message("+kiln::graph_spec").str(), 50, 5));
  // Whom it may speak to, and of.
  fresh("an actor it does not know", message(beat(), 50, 99));
  fresh("an asker", message(run(), 50, 5));
  fresh("an inbound worker that is no cluster actor", message(beat(), 50, 6));
  fresh("the second part of the cluster actor",
        message(bytes().message("+@atom+@str").atom(drain_atom::value).text("a").str(), 50, 5));
  fresh("the list", message(bytes().message("+@atom").atom(list_atom::value).str(), 50, 5));
  fresh("an actor of a third node", message(run('C', 60), 61, 6, normal | 1));
  fresh("an actor of ours it was not told of", message(run('A', 99), 61, 6, normal | 1));
  fresh("a forwarding stack", message(bytes().length(1).handle('B', 9).raw(beat().substr(1)).str(), 50, 5));
  fresh("an answer to nothing", message(beat(), 50, 5, normal | response | 3));
  fresh("an end of another's",
        frame(operation::down_message, bytes().node('C').node('A').value(caf_system(), caf::error()).str(), 0,
              51));
  fresh("a watch for another", frame(operation::monitor_message, bytes().node('C').node('A').str(), 0, 0, 5));
  // Sizes.
  fresh("trailing bytes", message(beat() + "x", 50, 5));
  fresh("cut off", message(beat().substr(0, beat().size() - 1), 50, 5));
  fresh("too long", bytes()
                        .number(std::uint8_t{2})
                        .number(std::uint16_t{0})
                        .number(std::uint8_t{0})
                        .number(std::uint32_t{0xffffffff})
                        .number(normal)
                        .number(std::uint64_t{50})
                        .number(std::uint64_t{5})
                        .str());
  fresh("a list of four billion",
        message(bytes().message("+kiln::cache_query").raw("\xff\xff\xff\xff\x0f").str(), 50, 5));
  // Handshakes.
  fresh("another node in the middle", client_handshake('C'));
  fresh("the wrong side's", server_handshake('B', 50));
  wire l;
  refused("before the handshake", message(beat(), 50, 5), l);
}

TEST_CASE("messages to CAF's own actors are left out, and what follows passes") {
  wire l;
  l.up();
  auto info =
      bytes().message("+@atom+@atom+@str").atom(caf::atom("sys")).atom(caf::atom("get")).text("info").str();
  CHECK(l.say(frame(operation::direct_message, info, normal, 90,
                    static_cast<std::uint64_t>(caf::atom("SpawnServ")), 1) +
              message(beat(), 50, 5))
            .ok());
  CHECK(l.passed == message(beat(), 50, 5));
}

TEST_CASE("an answer is taken once, and only from whom was asked") {
  auto peers = std::make_shared<basp_peers>(own);
  wire b(peers), c(peers, third);
  b.up('B');
  c.up('C');
  b.gate.take_out(message(beat(), 5, 50, normal | 9));
  CHECK_FALSE(c.say(message(beat(), 50, 5, normal | response | 9)).ok());
  CHECK(b.say(message(beat(), 50, 5, normal | response | 9)).ok());
  CHECK_FALSE(b.say(message(beat(), 50, 5, normal | response | 9)).ok());
}

TEST_CASE("a node's connections share what it knows, and nobody else has its name") {
  auto peers = std::make_shared<basp_peers>(own);
  wire one(peers), two(peers);
  one.up();
  two.up();
  one.with_worker();
  CHECK(two.say(message(run(), 61, 6, normal | 1)).ok());
  wire thief(peers, third);
  auto s = thief.say(client_handshake('B'));
  REQUIRE_FALSE(s.ok());
  CHECK(s.error().message.find("another certificate") != std::string::npos);
  wire myself(peers, third);
  CHECK_FALSE(myself.say(client_handshake('A')).ok());
  wire real(peers, own);
  CHECK(real.say(client_handshake('A')).ok());
}

TEST_CASE("an actor that has ended may still be written to for a while") {
  basp_limits limits;
  limits.ended_kept_max = 1;
  wire l(std::make_shared<basp_peers>(own, limits));
  l.up().with_worker();
  auto end = [&](std::uint64_t actor) {
    l.gate.take_out(frame(operation::down_message,
                          bytes().node('A').node('B').value(caf_system(), caf::error()).str(), 0, actor));
  };
  end(6);
  CHECK(l.say(message(run(), 61, 6, normal | 1)).ok());
  end(5);
  CHECK_FALSE(l.say(message(run(), 61, 6, normal | 2)).ok());
}

TEST_CASE("a node may tell of so many actors and no more, unless they end") {
  basp_limits limits;
  limits.actors_max = 3;
  wire l(std::make_shared<basp_peers>(own, limits));
  l.up();
  for (std::uint64_t id : {50, 51, 52}) CHECK(l.say(message(beat(), id, 5)).ok());
  auto end = bytes().node('B').node('A').value(caf_system(), caf::error()).str();
  CHECK(l.say(frame(operation::down_message, end, 0, 51)).ok());
  CHECK(l.say(message(beat(), 53, 5)).ok());
  CHECK_FALSE(l.say(message(beat(), 54, 5)).ok());
}

TEST_CASE("random changes of good connections end them or not, but nothing else") {
  auto good = client_handshake('B') + message(hello(), 50, 5, normal | 1) + message(beat(), 50, 5) +
              message(run(), 61, 6, normal | 1) + message(nested(3), 50, 5);
  std::uint32_t seed = 1;
  auto next = [&] { return seed = seed * 1664525 + 1013904223; };
  for (int round = 0; round < 20'000; ++round) {
    auto bad = good;
    for (std::uint32_t n = next() % 4 + 1; n > 0; --n)
      bad[next() % bad.size()] = static_cast<char>(next() >> 24);
    wire l;
    l.with_worker();
    (void)l.say(bad);
    l.gate.take_out(bad);
  }
  SUCCEED();
}

TEST_CASE("messages that never come whole are kept up to a bound, whoever sends them, and not for ever") {
  basp_limits limits;
  limits.held_bytes_max = 10'000;
  auto peers = std::make_shared<basp_peers>(own, limits);
  auto begun = message(std::string(9'000, 'x'), 50, 5).substr(0, 6'000);
  {
    wire one(peers), two(peers);
    one.up();
    two.up();
    CHECK(one.say(begun).ok());
    CHECK_FALSE(two.say(begun).ok());
  }
  wire again(peers);
  again.up();
  CHECK(again.say(begun).ok());
}
