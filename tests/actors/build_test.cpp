#include <catch2/catch.hpp>

#include <set>
#include <thread>

#include "actors/build/build_log.hpp"
#include "actors/build/build_request.hpp"
#include "actors/build/build_result.hpp"
#include "actors/builds.hpp"
#include "actors/history/history.hpp"
#include "actors/history/history_filter.hpp"
#include "actors/failure_stack.hpp"
#include "actors/solve/graph_spec.hpp"
#include "configs/solving.hpp"
#include "fakes.hpp"
#include "messages/told_code.hpp"
#include "rpc_status.pb.h"
#include "solver/error_details.hpp"
#include "workers/sources/resolutions.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

/// A frontend whose work is a function.
struct scripted_frontend : frontends::frontend {
  using work =
      std::function<result<gw::Result>(frontends::frontend_host&, const frontends::frontend_request&)>;
  work run;
  explicit scripted_frontend(work w) : run(std::move(w)) {}
  result<gw::Result> solve(frontends::frontend_host& host,
                           const frontends::frontend_request& request) override {
    return run(host, request);
  }
};

struct watched {
  progress_log log;
  int ends = 0;
};

status_listener::behavior_type watcher(status_listener::pointer, std::shared_ptr<watched> w) {
  return {[w](ctl::StatusResponse& s) { w->log.all.push_back(std::move(s)); }, [w](done_atom) { ++w->ends; }};
}

/// All of a node's solving over a fake worker; frontends run on threads of their own.
struct builds_fixture : graph_fixture {
  std::map<std::string, scripted_frontend::work> frontends;
  /// One thread at each depth: whoever waits for one of its own depth waits for ever.
  std::shared_ptr<actors::layered_pool> threads = std::make_shared<actors::layered_pool>(1);
  std::shared_ptr<workers::resolution_table> resolved = std::make_shared<workers::resolution_table>();
  builds_actor builds;
  caf::scoped_actor self{system};

  builds_fixture() {
    registry->put(actors::peers::build_graph_name, caf::actor_cast<caf::actor>(graph));
    actors::build_options b;
    b.peers = {registry};
    b.frontend = [this](const std::string& name) -> std::unique_ptr<kiln::frontends::frontend> {
      auto found = frontends.find(name);
      if (found == frontends.end()) return nullptr;
      return std::make_unique<scripted_frontend>(found->second);
    };
    b.frontend_threads = threads;
    b.builds = resolved;
    b.io = b.calls = io;
    builds = system.spawn(actors::builds, actors::builds_options{std::move(b)});
    registry->put(actors::peers::builds_name, caf::actor_cast<caf::actor>(builds));
    sched.run();
  }
  ~builds_fixture() {
    caf::anon_send_exit(builds, caf::exit_reason::user_shutdown);
    registry->erase(actors::peers::builds_name);
    registry->erase(actors::peers::build_graph_name);
    builds = nullptr;
    sched.run();
    threads.reset();
    sched.run();
  }

  struct solving {
    std::shared_ptr<std::vector<result<ctl::SolveResponse>>> answers =
        std::make_shared<std::vector<result<ctl::SolveResponse>>>();
    caf::actor client;
    bool done() const { return !answers->empty(); }
    bool ok() const { return done() && answers->front().ok(); }
    std::string message() const {
      return !done() ? "unanswered" : ok() ? "" : answers->front().error().message;
    }
  };

  solving begin(ctl::SolveRequest request) {
    solving out;
    auto answers = out.answers;
    out.client = system.spawn(
        [=, builds = builds](caf::event_based_actor* me, caf::unit_t) -> caf::behavior {
          me->request(builds, caf::infinite, solve_atom::value, request)
              .then([=](ctl::SolveResponse& r) { answers->push_back(std::move(r)); },
                    [=](caf::error& e) { answers->push_back(from_caf(e)); });
          return {[](done_atom) {}};
        },
        caf::unit);
    sched.run();
    return out;
  }
  /// Runs messages, letting threads work, until `over`.
  void run_until(const std::function<bool()>& over) {
    auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!over()) {
      REQUIRE(std::chrono::steady_clock::now() < deadline);
      sched.run();
      std::this_thread::yield();
    }
    sched.run();
  }
  template <class Reply, class Request>
  result<Reply> ask(const build_actor& build, const Request& request) {
    std::optional<result<Reply>> out;
    auto asked = self->request(build, caf::infinite, request);
    sched.run();
    asked.receive([&](Reply& r) { out.emplace(std::move(r)); },
                  [&](caf::error& e) { out.emplace(from_caf(e)); });
    return *std::move(out);
  }
  result<build_actor> find(const std::string& ref) {
    std::optional<result<build_actor>> out;
    auto asked = self->request(builds, caf::infinite, find_atom::value, ref);
    sched.run();
    sched.advance_time(std::chrono::seconds(4));
    sched.run();
    asked.receive([&](build_actor& b) { out.emplace(b); }, [&](caf::error& e) { out.emplace(from_caf(e)); });
    return *std::move(out);
  }
  static ctl::SolveRequest of_frontend(const std::string& name) {
    ctl::SolveRequest r;
    r.set_ref("ref1");
    r.set_frontend(name);
    return r;
  }
  static ctl::SolveRequest request(const std::string& ref, const pb::Definition& def) {
    ctl::SolveRequest r;
    r.set_ref(ref);
    *r.mutable_definition() = def;
    return r;
  }
};

/// What a frontend expects: Catch's own checks are for the test's thread only. In vain, its build fails with
/// `what`.
status expect(bool holds, const char* what) { return holds ? status{} : make_error(errc::internal, what); }

pb::Definition simple(const std::string& command = "make") {
  definition d;
  return d.finish(d.run(d.source("image"), command));
}

}  // namespace

TEST_CASE_METHOD(builds_fixture, "a result without an SBOM is scanned by the daemon when one is asked for") {
  script->images["docker-image://docker.io/library/scanner:latest"] =
      R"({"os":"linux","architecture":"amd64","config":{"Cmd":["scan"]}})";
  auto r = request("ref1", simple());
  (*r.mutable_frontendattrs())["attest:sbom"] = "generator=scanner";
  auto s = begin(r);
  CHECK(s.message() == "");
  CHECK(script->ran ==
        std::vector<std::string>{"image", "make", "docker-image://docker.io/library/scanner:latest", "scan"});

  // Who cannot scan says so; who has nothing to scan does not ask.
  (*r.mutable_frontendattrs())["attest:sbom"] = "generator=stranger";
  r.set_ref("ref2");
  CHECK(begin(r).message().find("not part of this test") != std::string::npos);
  r.mutable_definition()->Clear();
  r.set_ref("ref3");
  CHECK(begin(r).message() == "");
  (*r.mutable_frontendattrs())["attest:sbom"] = "generator=";
  r.set_ref("ref4");
  CHECK(begin(r).message().find("failed to parse sbom generator") != std::string::npos);
}

TEST_CASE_METHOD(builds_fixture, "a frontend's own SBOM is enough") {
  frontends["own"] = [](frontends::frontend_host& host,
                        const frontends::frontend_request&) -> result<gw::Result> {
    gw::SolveRequest question;
    *question.mutable_definition() = simple();
    question.set_allowresultreturn(true);
    KILN_TRY(auto solved, host.solve(question));
    auto out = solved.result();
    auto& sbom = *(*out.mutable_attestations())["linux/amd64"].add_attestation();
    sbom.set_intotopredicatetype("https://spdx.dev/Document");
    sbom.mutable_ref()->set_id(out.ref().id());
    return out;
  };
  auto r = of_frontend("own");
  (*r.mutable_frontendattrs())["attest:sbom"] = "generator=scanner";
  auto s = begin(r);
  run_until([&] { return s.done(); });
  CHECK(s.message() == "");
  CHECK(script->ran == std::vector<std::string>{"image", "make"});
}

TEST_CASE_METHOD(builds_fixture, "a definition is built and its watcher sees everything, then the end") {
  auto w = std::make_shared<watched>();
  auto listener = system.spawn(watcher, w);
  auto s = begin(request("ref1", simple()));
  CHECK(s.ok());
  self->send(builds, watch_atom::value, std::string("ref1"), listener);
  sched.run();
  CHECK(w->ends == 1);
  CHECK(w->log.logs() == "log of image\nlog of make\n");
  CHECK(w->log.completed().back() == "make");
}

TEST_CASE_METHOD(builds_fixture, "a ref is taken until ten seconds after its build") {
  auto first = begin(request("ref1", simple()));
  auto second = begin(request("ref1", simple()));
  CHECK(first.ok());
  CHECK(second.message() == "job ID ref1 exists");
  sched.advance_time(std::chrono::seconds(11));
  sched.run();
  CHECK(begin(request("ref1", simple())).ok());
}

TEST_CASE_METHOD(builds_fixture, "a build of unknown ref is waited for, then not found") {
  auto w = std::make_shared<watched>();
  auto listener = system.spawn(watcher, w);
  auto early = self->request(builds, caf::infinite, watch_atom::value, std::string("later"), listener);
  sched.run();
  auto s = begin(request("later", simple()));
  early.receive([](bool) {}, [](caf::error&) { FAIL(); });
  CHECK(w->ends == 1);
  auto nobody = self->request(builds, caf::infinite, watch_atom::value, std::string("nothing"), listener);
  sched.run();
  sched.advance_time(std::chrono::seconds(7));
  sched.run();
  nobody.receive([](bool) { FAIL(); },
                 [](caf::error& e) {
                   CHECK(from_caf(e).code == errc::not_found);
                   CHECK(from_caf(e).message == "no such job nothing");
                 });
  CHECK(find("nothing").error().message == "no such job nothing");
}

TEST_CASE_METHOD(builds_fixture, "bad requests are refused before anything runs") {
  auto refused = [&](ctl::SolveRequest r) {
    r.set_ref(new_id());
    auto s = begin(std::move(r));
    CHECK(script->ran.empty());
    return s.message();
  };
  ctl::SolveRequest r;
  r.set_frontend("nonsense.v0");
  CHECK(refused(r) == "invalid frontend: nonsense.v0");
  r = request("", simple());
  r.add_entitlements("network.host");
  CHECK(refused(r) == "granting entitlement network.host is not allowed by build daemon configuration");
  r = request("", simple());
  r.mutable_cache()->add_exports()->set_type("carrier-pigeon");
  CHECK(refused(r) == "unknown cache exporter: \"carrier-pigeon\"");
  r = request("", simple());
  r.set_compatibilityversion(7);
  CHECK(refused(r) == "unsupported compatibility-version 7 (supported: [10 20 30])");
  r.set_compatibilityversion(40);
  CHECK(refused(r) == "unsupported compatibility-version 40: upgrade buildkit (max supported: 30)");
  definition insecure;
  pb::Op op;
  op.add_inputs()->set_digest(insecure.source("image"));
  op.mutable_exec()->mutable_meta()->add_args("make");
  op.mutable_exec()->add_mounts()->set_dest("/");
  op.mutable_exec()->set_network(pb::HOST);
  insecure.finish(insecure.add(op));
  CHECK(refused(request("", insecure.def)) == "failed to load LLB: network.host is not allowed");
  CHECK(begin({}).message() == "build ref is missing");
}

TEST_CASE_METHOD(builds_fixture,
                 "sources of a build like those of old are told so, and are others than today's") {
  std::vector<std::string> told;
  script->refuse = [&](const run_request& r) -> std::optional<error> {
    if (r.op.op.has_source()) told.push_back(r.op.op.source().attrs_size() > 0 ? "old" : "new");
    return std::nullopt;
  };
  for (int version : {10, 0}) {
    definition d;
    d.finish(d.source("git://example.com/a#" + std::string(40, 'a')));
    auto r = request("", d.def);
    r.set_ref(new_id());
    r.set_compatibilityversion(version);
    (*script).source_keys["git://example.com/a#" + std::string(40, 'a')] = "key " + std::to_string(version);
    auto s = begin(std::move(r));
    run_until([&] { return s.done(); });
  }
  CHECK(told == std::vector<std::string>{"old", "new"});
}

TEST_CASE_METHOD(builds_fixture, "a frontend solves lazily and its result is what is built") {
  frontends["test.v0"] = [](auto& host, const auto& r) -> result<gw::Result> {
    KILN_CHECK(expect(r.options.at("target") == "x", "the request's options do not reach the frontend"));
    gw::SolveRequest unused, used;
    *unused.mutable_definition() = simple("never");
    *used.mutable_definition() = simple("make");
    KILN_TRY(auto dropped, host.solve(unused));
    used.set_allowresultreturn(true);
    used.set_allowresultarrayref(true);
    KILN_TRY(auto kept, host.solve(used));
    KILN_CHECK(expect(!dropped.ref().empty(), "a client that takes no results gets no ref"));
    KILN_CHECK(expect(kept.ref().empty(), "a client that takes results gets a ref"));
    (*kept.mutable_result()->mutable_metadata())["frontend.note"] = "hello";
    return kept.result();
  };
  auto r = of_frontend("test.v0");
  (*r.mutable_frontendattrs())["target"] = "x";
  auto s = begin(r);
  run_until([&] { return s.done(); });
  CHECK(s.message() == "");
  REQUIRE(s.ok());
  CHECK(script->ran == std::vector<std::string>{"image", "make"});
  CHECK(s.answers->front()->exporterresponse().at("frontend.note") == "hello");
}

TEST_CASE_METHOD(builds_fixture,
                 "a frontend's failure keeps its details, says which one it was, and is told as unknown") {
  frontends["test.v0"] = [](auto&, const auto&) -> result<gw::Result> {
    auto e = make_error(errc::invalid_argument, "dockerfile parse error on line 3");
    e.details.push_back({std::string(solver::source_detail_type), "{}"});
    return e;
  };
  auto s = begin(of_frontend("test.v0"));
  run_until([&] { return s.done(); });
  CHECK(s.message() == "dockerfile parse error on line 3");
  CHECK(solver::has_detail(s.answers->front().error(), solver::source_detail_type));
  const auto& failure = s.answers->front().error();
  CHECK(failure.code == errc::unknown);
  CHECK(solver::has_detail(failure, kiln::stack_detail_type));
  CHECK(failure.details.size() == 3);
  CHECK(failure.details.at(1) == solver::frontend_detail("test.v0", ""));
  CHECK(solver::frontend_detail("gateway.v0", "a/b:1").value == R"({"name":"gateway.v0","source":"a/b:1"})");
}

TEST_CASE_METHOD(builds_fixture, "a code that was chosen for clients reaches them, and the history") {
  frontends["test.v0"] = [](auto&, const auto&) -> result<gw::Result> {
    return told_as(errc::unimplemented, make_error(errc::invalid_argument, "unsupported capability"));
  };
  auto s = begin(of_frontend("test.v0"));
  run_until([&] { return s.done(); });
  CHECK(s.answers->front().error().code == errc::unimplemented);
  for (const auto& d : s.answers->front().error().details)
    CHECK(d.type_url.find("kiln") == std::string::npos);
}

TEST_CASE("the last Solve of an old frontend is its result") {
  gw::SolveResponse solved;
  solved.mutable_result()->mutable_ref()->set_id("r1");
  (*solved.mutable_result()->mutable_metadata())["b"] = "solved";
  auto whole = actors::final_result(R"({"a":"eA==","b":"eQ==","c":null})", solved);
  REQUIRE(whole.ok());
  CHECK(whole->ref().id() == "r1");
  CHECK(whole->metadata().at("a") == "x");
  CHECK(whole->metadata().at("b") == "solved");
  CHECK(whole->metadata().at("c").empty());
  CHECK(actors::final_result("null", solved).ok());
  solved.set_ref("old");
  CHECK(actors::final_result("{}", solved)->ref().id() == "old");
  CHECK(actors::final_result("", solved).error().message.starts_with("ExporterAttr of a final Solve: "));
  CHECK(actors::final_result(R"({"a":"?"})", solved).error().message ==
        "ExporterAttr of a final Solve: a is not base64 text");
  CHECK_FALSE(actors::final_result("[]", solved).ok());
}

TEST_CASE_METHOD(builds_fixture,
                 "what sources led to, and the content this keeps, is let go when the build ends") {
  script->hold = true;
  auto s = begin(request("ref1", simple()));
  run_until([&] { return script->held.size() == 1; });
  auto build = find("ref1");
  REQUIRE(build.ok());
  auto name = actors::build_name(caf::actor_cast<caf::strong_actor_ptr>(*build));
  CHECK(resolved->find(name));
  script->hold = false;
  resume();
  REQUIRE(s.ok());
  CHECK_FALSE(resolved->find(name));  // though it may still be watched
}

TEST_CASE_METHOD(builds_fixture,
                 "what a failed step left is there for clients until the build ends, and not longer") {
  auto failure = make_error(errc::unknown, "exit code: 1");
  std::vector<std::string> none, left{"left#1"};
  failure.details.push_back(solver::solve_detail({}, {}, none, left));
  script->refs.insert("left#1");
  script->failures["make"] = failure;
  frontends["test.v0"] = [](auto& host, const auto&) -> result<gw::Result> {
    gw::SolveRequest question;
    *question.mutable_definition() = simple();
    question.set_evaluate(true);
    if (host.solve(question).ok()) return make_error(errc::internal, "the step went well");
    return gw::Result{};
  };
  auto s = begin(of_frontend("test.v0"));
  run_until([&] { return s.done(); });
  CHECK(s.message() == "");
  CHECK(script->unpinned == std::vector<std::string>{"left#1"});
}

TEST_CASE_METHOD(builds_fixture,
                 "frontends that call frontends never wait for a thread that waits for them") {
  // Each build has one frontend waiting at each depth, for the only thread of the next.
  frontends["outer.v0"] = frontends["middle.v0"] = [](auto& host, const auto& request) -> result<gw::Result> {
    gw::SolveRequest inner;
    inner.set_frontend(request.options.contains("inner") ? "middle.v0" : "inner.v0");
    KILN_TRY(auto reply, host.solve(inner));
    return reply.result();
  };
  frontends["inner.v0"] = [](auto&, const auto&) -> result<gw::Result> { return gw::Result{}; };
  std::vector<solving> all;
  for (int i = 0; i < 5; ++i) {
    ctl::SolveRequest r;
    r.set_ref("ref" + std::to_string(i));
    r.set_frontend("outer.v0");
    (*r.mutable_frontendattrs())["inner"] = "";
    all.push_back(begin(r));
  }
  run_until([&] { return std::all_of(all.begin(), all.end(), [](const auto& s) { return s.done(); }); });
  for (const auto& s : all) CHECK(s.message() == "");
}

TEST_CASE_METHOD(builds_fixture, "a build that dies says why, to its client and in the history") {
  script->hold = true;
  std::vector<ctl::BuildHistoryEvent> events;
  auto history = system.spawn(
      [&events](caf::event_based_actor* me, caf::unit_t) -> caf::behavior {
        me->set_default_handler(caf::drop);
        return {[&events](ctl::BuildHistoryEvent& e) { events.push_back(std::move(e)); }};
      },
      caf::unit);
  registry->put(actors::peers::history_name, history);
  ctl::SolveRequest r;
  r.set_ref("ref1");
  *r.mutable_definition() = simple();
  auto s = begin(r);
  run_until([&] { return script->held.size() == 1; });
  auto build = find("ref1");
  REQUIRE(build.ok());
  SECTION("the build") {
    caf::anon_send_exit(*build, caf::exit_reason::unhandled_exception);
    sched.run();
    CHECK(s.message() == "build ref1 died: exit_reason(unhandled_exception)");
  }
  SECTION("the build graph, and builds with it") {
    // As their supervisor does it.
    caf::anon_send_exit(graph, caf::exit_reason::unhandled_exception);
    registry->erase(actors::peers::build_graph_name, "out of luck");
    caf::anon_send_exit(builds, caf::exit_reason::user_shutdown);
    sched.run();
    CHECK_THAT(s.message(), Catch::Contains("the build graph died: "));
  }
  REQUIRE(s.done());
  CHECK(s.answers->front().error().code == errc::internal);
  REQUIRE(events.size() == 2);
  CHECK(events.back().type() == ctl::COMPLETE);
  CHECK(events.back().record().error().code() == static_cast<int>(errc::internal));
  CHECK_THAT(events.back().record().error().message(), Catch::Contains(" died: "));
  registry->erase(actors::peers::history_name);
  caf::anon_send_exit(history, caf::exit_reason::user_shutdown);
  sched.run();
}

TEST_CASE_METHOD(builds_fixture, "a container gets what is there: made again when its node has gone since") {
  ctl::SolveRequest driven;
  driven.set_ref("ref1");
  auto s = begin(driven);
  auto build = find("ref1");
  REQUIRE(build.ok());
  gw::SolveRequest question;
  *question.mutable_definition() = simple("n2!make");  // as of node n2
  question.set_allowresultreturn(true);
  question.set_allowresultarrayref(true);
  auto made = ask<gw::SolveResponse>(*build, question);
  REQUIRE(made.ok());
  REQUIRE(!made->result().ref().id().empty());
  auto lend = [&] {
    std::optional<result<container_inputs>> out;
    container_inputs wanted;
    wanted.refs = {made->result().ref().id()};
    auto asked = self->request(caf::actor_cast<actors::build_impl>(*build), caf::infinite, wanted);
    sched.run();
    asked.receive([&](container_inputs& lent) { out.emplace(std::move(lent)); },
                  [&](caf::error& e) { out.emplace(from_caf(e)); });
    return out->ok() && (*out)->refs.size() == 1 ? (*out)->refs[0]
           : out->ok()                           ? "none"
                                                 : out->error().message;
  };
  CHECK(lend() == "n2!make#2");
  CHECK(lend() == "n2!make#2");
  script->lost.insert("n2!make#2");
  CHECK(lend() == "n2!make#3");
  caf::anon_send(*build, cancel_atom::value);
  sched.run();
}

TEST_CASE_METHOD(builds_fixture, "frontends that call each other for ever are refused") {
  frontends["test.v0"] = [](auto& host, const auto&) -> result<gw::Result> {
    gw::SolveRequest again;
    again.set_frontend("test.v0");
    KILN_TRY(auto reply, host.solve(again));
    return reply.result();
  };
  auto s = begin(of_frontend("test.v0"));
  run_until([&] { return s.done(); });
  CHECK(s.message() == "frontends call each other too deeply");
}

TEST_CASE_METHOD(builds_fixture, "a build that waits for a worker says so, and for how long") {
  auto shown = [&] {
    auto w = std::make_shared<watched>();
    auto who = system.spawn(watcher, w);
    self->send(builds, watch_atom::value, std::string("ref1"), who);
    sched.run();
    std::vector<ctl::Vertex> out;
    for (const auto& s : w->log.all)
      for (const auto& v : s.vertexes())
        if (v.name() == "[internal] waiting for a worker") out.push_back(v);
    caf::anon_send_exit(who, caf::exit_reason::user_shutdown);
    return out;
  };
  script->silent = true;
  auto s = begin(request("ref1", simple()));
  CHECK(shown().empty());  // not at once
  sched.advance_time(configs::solving::silent_wait);
  sched.run();
  auto waiting = shown();
  REQUIRE(waiting.size() == 1);
  CHECK(!waiting[0].has_completed());
  script->silent = false;
  resume();
  CHECK(s.message() == "");
  waiting = shown();
  REQUIRE(waiting.size() == 2);
  CHECK((waiting[1].has_completed() && waiting[1].digest() == waiting[0].digest()));
}

TEST_CASE_METHOD(builds_fixture, "a build whose requester goes is cancelled, frontend and all") {
  script->hold = true;
  std::atomic<bool> stopped = false;
  frontends["test.v0"] = [&](auto& host, const auto&) -> result<gw::Result> {
    gw::SolveRequest r;
    *r.mutable_definition() = simple();
    r.set_evaluate(true);
    auto reply = host.solve(r);
    stopped = !reply.ok() && host.stop_token().stop_requested();
    return reply.ok() ? result<gw::Result>(reply->result()) : result<gw::Result>(reply.error());
  };
  auto s = begin(of_frontend("test.v0"));
  run_until([&] { return script->held.size() == 1; });
  caf::anon_send_exit(s.client, caf::exit_reason::user_shutdown);
  s.client = nullptr;
  run_until([&] { return stopped && !script->cancelled.empty(); });
  CHECK(script->cancelled == std::vector<std::string>{"image"});
}

TEST_CASE_METHOD(builds_fixture, "a gateway client drives a build and returns its result") {
  ctl::SolveRequest r;
  r.set_ref("ref1");
  r.set_session("s");
  *(*r.mutable_frontendinputs())["base"].mutable_metadata() = {};
  auto s = begin(r);
  CHECK_FALSE(s.done());
  auto build = find("ref1");
  REQUIRE(build.ok());
  auto pong = ask<gw::PongResponse>(*build, gw::PingRequest{});
  std::set<std::string> offered;
  for (const auto& c : pong->llbcaps()) offered.insert(c.id());
  CHECK(offered.size() == 88);
  CHECK(offered.contains("exec.mount.cache"));
  CHECK(offered.contains("cache.gha"));
  CHECK(pong->frontendapicaps_size() == 27);
  CHECK(pong->workers_size() == 1);
  CHECK(ask<gw::InputsResponse>(*build, gw::InputsRequest{})->definitions().contains("base"));

  gw::SolveRequest solve;
  *solve.mutable_definition() = simple();
  auto solved = ask<gw::SolveResponse>(*build, solve);
  REQUIRE(solved.ok());
  CHECK(script->ran.empty());
  gw::EvaluateRequest evaluate;
  evaluate.set_ref(solved->ref());
  CHECK(ask<gw::EvaluateResponse>(*build, evaluate).ok());
  CHECK(script->ran.size() == 2);
  evaluate.set_ref("unknown");
  CHECK_FALSE(ask<gw::EvaluateResponse>(*build, evaluate).ok());

  gw::ReturnRequest back;
  back.mutable_result()->mutable_ref()->set_id("stranger");
  CHECK(ask<gw::ReturnResponse>(*build, back).error().message == "return reference stranger not found");
  back.mutable_result()->mutable_ref()->set_id(solved->ref());
  CHECK(ask<gw::ReturnResponse>(*build, back).ok());
  CHECK(s.ok());
  CHECK_FALSE(ask<gw::ReturnResponse>(*build, back).ok());
}

TEST_CASE_METHOD(builds_fixture,
                 "an image that a source policy makes something else of fails with rule and source") {
  namespace sp = moby::buildkit::v1::sourcepolicy;
  ctl::SolveRequest r;
  r.set_ref("ref1");
  auto convert = [&](const std::string& from, const std::string& to) {
    auto& rule = *r.mutable_sourcepolicy()->add_rules();
    rule.set_action(sp::CONVERT);
    rule.mutable_selector()->set_identifier(from);
    rule.mutable_updates()->set_identifier(to);
  };
  convert("docker-image://docker.io/library/a:1", "local://context");
  convert("docker-image://docker.io/library/b:1", "docker-image://docker.io/library/gone:1");
  convert("docker-image://docker.io/library/c:1", "docker-image://docker.io/library/d:1");
  script->images["local://context"] = "";
  script->images["docker-image://docker.io/library/d:1"] = "{}";
  auto s = begin(r);
  auto build = find("ref1");
  REQUIRE(build.ok());
  auto resolve = [&](const std::string& ref) {
    gw::ResolveImageConfigRequest question;
    question.set_ref(ref);
    return ask<gw::ResolveImageConfigResponse>(*build, question);
  };
  CHECK(resolve("docker.io/library/a:1").error().message ==
        "ref mutated by policy to non-image: docker-image://docker.io/library/a:1 -> local://context: rule 1 "
        "(CONVERT docker-image://docker.io/library/a:1) makes \"local://context\" of "
        "\"docker-image://docker.io/library/a:1\"");
  CHECK(resolve("docker.io/library/b:1")
            .error()
            .message.starts_with("failed to resolve source metadata for docker.io/library/b:1: source "
                                 "policy: rule 2 (CONVERT docker-image://docker.io/library/b:1) makes "
                                 "\"docker-image://docker.io/library/gone:1\" of "
                                 "\"docker-image://docker.io/library/b:1\": "));
  CHECK(resolve("docker.io/library/c:1")->ref() == "docker.io/library/d:1");
}

TEST_CASE_METHOD(builds_fixture,
                 "a source fails with the rule that converted or denied it, wherever it is met") {
  namespace sp = moby::buildkit::v1::sourcepolicy;
  const std::string image = "docker-image://docker.io/library/";
  ctl::SolveRequest policy;
  auto rule = [&](sp::PolicyAction action, const std::string& from, const std::string& to) {
    auto& added = *policy.mutable_sourcepolicy()->add_rules();
    added.set_action(action);
    added.mutable_selector()->set_identifier(image + from);
    if (!to.empty()) added.mutable_updates()->set_identifier(image + to);
  };
  rule(sp::DENY, "bad:1", "");
  rule(sp::CONVERT, "a:1", "gone:1");
  rule(sp::CONVERT, "b:1", "bad:1");
  script->failures[image + "gone:1"] = make_error(errc::not_found, "there is no such image");
  auto built_on = [&](const std::string& source) {
    definition d;
    return d.finish(d.run(d.source(image + source), "make"));
  };
  frontends["test.v0"] = [&](frontends::frontend_host& host,
                             const frontends::frontend_request& r) -> result<gw::Result> {
    gw::SolveRequest question;
    *question.mutable_definition() = built_on(r.options.at("on"));
    question.set_allowresultreturn(true);
    question.set_evaluate(true);
    KILN_TRY(auto solved, host.solve(question));
    return solved.result();
  };
  auto failure = [&](const std::string& source, bool by_frontend) {
    auto r = policy;
    r.set_ref(new_id());
    if (by_frontend) {
      r.set_frontend("test.v0");
      (*r.mutable_frontendattrs())["on"] = source;
    } else {
      *r.mutable_definition() = built_on(source);
    }
    auto s = begin(r);
    run_until([&] { return s.done(); });
    return s.message();
  };
  auto rule_of = [&](const char* which, const std::string& from) { return which + image + from + ")"; };
  auto converted = "source policy: " + rule_of("rule 2 (CONVERT ", "a:1") + " makes \"" + image +
                   "gone:1\" of \"" + image + "a:1\": there is no such image";
  auto denied = "denied by policy: " + rule_of("rule 1 (DENY ", "bad:1");
  auto before = "; before that " + rule_of("rule 3 (CONVERT ", "b:1") + " makes \"" + image +
                "bad:1\" of \"" + image + "b:1\"";
  for (bool by_frontend : {false, true}) {
    CAPTURE(by_frontend);
    CHECK(failure("a:1", by_frontend) == converted);
    CHECK(failure("bad:1", by_frontend).find(denied) != std::string::npos);
    CHECK(failure("b:1", by_frontend).find(denied + before) != std::string::npos);
    CHECK(failure("gone:1", by_frontend) == "there is no such image");  // as it was written
  }
  auto r = policy;
  r.set_ref("asks");
  auto s = begin(r);
  auto build = find("asks");
  REQUIRE(build.ok());
  gw::ResolveSourceMetaRequest question;
  question.mutable_source()->set_identifier(image + "bad:1");
  CHECK(ask<gw::ResolveSourceMetaResponse>(*build, question).error().message.find(denied) !=
        std::string::npos);
}

TEST_CASE_METHOD(builds_fixture, "an error a gateway client returns ends the build with it") {
  ctl::SolveRequest r;
  r.set_ref("ref1");
  auto s = begin(r);
  auto build = find("ref1");
  REQUIRE(build.ok());
  gw::ReturnRequest back;
  back.mutable_error()->set_code(3);
  back.mutable_error()->set_message("no such target");
  CHECK(ask<gw::ReturnResponse>(*build, back).ok());
  CHECK(s.message() == "no such target");
  CHECK(s.answers->front().error().code == errc::invalid_argument);
}

TEST_CASE("legacy request fields become today's") {
  ctl::SolveRequest r;
  r.set_exporterdeprecated("image");
  (*r.mutable_exporterattrsdeprecated())["name"] = "x";
  r.mutable_cache()->add_importrefsdeprecated("a/b");
  (*r.mutable_frontendattrs())["build-arg:SOURCE_DATE_EPOCH"] = "5";
  REQUIRE(actors::prepare(r).ok());
  REQUIRE(r.exporters_size() == 1);
  CHECK(r.exporters(0).attrs().at("source-date-epoch") == "5");
  REQUIRE(r.cache().imports_size() == 1);
  CHECK(r.cache().imports(0).attrs().at("ref") == "a/b");

  ctl::SolveRequest twice;
  for (int i = 0; i < 2; ++i) {
    auto& e = *twice.mutable_cache()->add_exports();
    e.set_type("registry");
    (*e.mutable_attrs())["ref"] = "a/b";
  }
  CHECK(actors::prepare(twice).error().message == "duplicate cache exports [registry]");
  ctl::SolveRequest inline_twice;
  inline_twice.mutable_cache()->add_exports()->set_type("inline");
  inline_twice.mutable_cache()->add_exports()->set_type("inline");
  CHECK(actors::prepare(inline_twice).ok());
  CHECK(inline_twice.cache().exports_size() == 1);
}

TEST_CASE("gateway.v0 of the built-in Dockerfile frontend is a short cut") {
  std::string name = "gateway.v0";
  std::map<std::string, std::string> options{{"source", "dockerfile.v0"}, {"target", "x"}};
  auto kept = options;
  actors::shorten_frontend(name, options);
  CHECK(name == "dockerfile.v0");
  CHECK_FALSE(options.contains("source"));
  name = "gateway.v0";
  kept["context:dockerfile.v0"] = "docker-image://x";
  actors::shorten_frontend(name, kept);
  CHECK(name == "gateway.v0");
}

TEST_CASE("platforms of a result come from its metadata") {
  auto p = actors::result_platforms(
      {{"refs.platforms",
        R"({"Platforms":[{"ID":"linux/arm/v7","Platform":{"architecture":"arm","os":"linux","variant":"v7"}}]})"}});
  REQUIRE(p.size() == 1);
  CHECK(p.front().first == "linux/arm/v7");
  CHECK(p.front().second.variant == "v7");
  CHECK(actors::result_platforms({{"refs.platforms", "[nonsense"}}).empty());
}

TEST_CASE(
    "a request for more exporters or caches than anyone needs is refused with the number and the bound") {
  ctl::SolveRequest r;
  for (int i = 0; i < 101; ++i) r.add_exporters()->set_type("local");
  CHECK(actors::prepare(r).error().message == "invalid request with 101 exporters: at most 100 are allowed");
  r.clear_exporters();
  for (int i = 0; i < 102; ++i) r.mutable_cache()->add_imports()->set_type("registry");
  CHECK(actors::prepare(r).error().message ==
        "invalid request with 102 cache imports: at most 100 are allowed");
}

TEST_CASE("a build's log keeps a bounded number of bytes, the ends of steps longest") {
  actors::build_log log;
  ctl::StatusResponse text;
  text.add_logs()->set_msg(std::string(1 << 20, 'x'));
  for (int i = 0; i < 80; ++i) log.add(text);
  ctl::StatusResponse step;
  step.add_vertexes()->set_digest("d");
  step.mutable_vertexes(0)->mutable_completed()->set_seconds(1);
  log.add(step);
  auto kept = actors::build_log::decode(actors::build_log::encode(*log.kept()));
  CHECK(kept.size() == 64);
  CHECK(kept.back().vertexes_size() == 1);
  step.mutable_vertexes(0)->set_error(std::string(1 << 20, 'x'));
  for (int i = 0; i < 80; ++i) log.add(step);
  CHECK(actors::build_log::encode(*log.kept()).size() <= (128u << 20) + 1024);
}

namespace {

ctl::Vertex& planned(ctl::StatusResponse& s, const std::string& digest,
                     const std::vector<std::string>& inputs) {
  auto& v = *s.add_vertexes();
  v.set_digest(digest);
  v.set_name("step " + digest);
  for (const auto& i : inputs) v.add_inputs(i);
  return v;
}

}  // namespace

TEST_CASE("what a step stands on was cached if nobody began it") {
  actors::build_log log;
  ctl::StatusResponse plan;
  planned(plan, "from", {});
  planned(plan, "a", {"from"});
  planned(plan, "b", {"a"});
  planned(plan, "c", {"b"});
  log.add(plan);
  ctl::StatusResponse resolved;
  auto& from = planned(resolved, "from", {});
  from.mutable_started()->set_seconds(1);
  from.mutable_completed()->set_seconds(2);
  log.add(resolved);
  CHECK(log.cached_steps() == 0);
  ctl::StatusResponse run;
  planned(run, "c", {"b"}).mutable_started()->set_seconds(5);
  log.add(run);
  CHECK(log.cached_steps() == 2);
  CHECK(log.completed_steps() == 3);
  auto told = log.kept()->back();
  REQUIRE(told.vertexes_size() == 3);
  CHECK(told.vertexes(0).digest() == "a");
  CHECK(told.vertexes(0).cached());
  CHECK(told.vertexes(0).completed().seconds() == 5);
  CHECK(told.vertexes(1).digest() == "b");
  CHECK(told.vertexes(2).digest() == "c");
  CHECK_FALSE(told.vertexes(2).cached());
}

TEST_CASE("a step that is resumed is told with all that is known of it") {
  actors::build_log log;
  ctl::StatusResponse done;
  auto& from = planned(done, "from", {"x"});
  from.mutable_started()->set_seconds(1);
  from.mutable_completed()->set_seconds(2);
  log.add(done);
  ctl::StatusResponse again;
  again.add_vertexes()->set_digest("from");
  again.mutable_vertexes(0)->mutable_started()->set_seconds(7);
  log.add(again);
  auto told = log.kept()->back().vertexes(0);
  CHECK(told.name() == "step from");
  CHECK(told.inputs_size() == 1);
  CHECK(told.started().seconds() == 7);
  CHECK_FALSE(told.has_completed());
  again.mutable_vertexes(0)->mutable_completed()->set_seconds(9);
  log.add(again);
  CHECK(log.kept()->back().vertexes(0).completed().seconds() == 9);
  CHECK(log.completed_steps() == 1);
}

TEST_CASE("a build's log survives being stored") {
  actors::build_log log;
  for (int i = 0; i < 3; ++i) {
    ctl::StatusResponse s;
    auto& v = *s.add_vertexes();
    v.set_digest("d" + std::to_string(i));
    v.set_cached(i == 1);
    if (i < 2) v.mutable_completed()->set_seconds(1);
    log.add(s);
  }
  CHECK(log.total_steps() == 3);
  CHECK(log.completed_steps() == 2);
  CHECK(log.cached_steps() == 1);
  auto bytes = actors::build_log::encode(*log.kept());
  auto back = actors::build_log::decode(bytes);
  REQUIRE(back.size() == 3);
  CHECK(back[2].vertexes(0).digest() == "d2");
  CHECK(actors::build_log::decode(std::string_view(bytes).substr(0, bytes.size() - 1)).size() == 2);
  CHECK(actors::build_log::decode("\xff\xff\xff\xff").empty());
}

namespace {

ctl::BuildHistoryRecord record(const std::string& ref, std::int64_t started, std::int64_t completed,
                               const std::string& failure = "") {
  ctl::BuildHistoryRecord r;
  r.set_ref(ref);
  r.mutable_createdat()->set_seconds(started);
  if (completed) r.mutable_completedat()->set_seconds(completed);
  if (!failure.empty()) r.mutable_error()->set_message(failure);
  return r;
}

bool selects(const std::vector<std::string>& filters, const ctl::BuildHistoryRecord& r) {
  auto f = actors::parse_history_filters(filters, 1'000'000'000'000'000LL);  // now: 1,000,000 s
  REQUIRE(f.ok());
  return (*f)(r);
}

}  // namespace

TEST_CASE("history filters select by ref, status, time and duration") {
  auto fine = record("abc", 990'000, 990'100);
  auto failed = record("def", 990'000, 990'010, "boom");
  auto cancelled = record("ghi", 990'000, 990'010, "rpc error: context canceled");
  auto running = record("jkl", 999'999, 0);
  CHECK(selects({}, fine));
  CHECK(selects({"ref==abc"}, fine));
  CHECK(selects({"ref~=^a"}, fine));
  CHECK_FALSE(selects({"ref==abc"}, failed));
  CHECK(selects({"status==completed"}, fine));
  CHECK(selects({"status==error"}, failed));
  CHECK(selects({"status==canceled"}, cancelled));
  CHECK(selects({"status==running"}, running));
  CHECK(selects({"duration>1m"}, fine));
  CHECK_FALSE(selects({"duration>1m"}, failed));
  CHECK(selects({"startedAt>1h"}, running));
  CHECK_FALSE(selects({"startedAt>1h"}, fine));
  CHECK(selects({"status==error,duration<1m"}, failed));
  CHECK_FALSE(selects({"status==error,duration>1m"}, failed));
  CHECK(selects({"status==error", "status==running"}, running));
  CHECK(selects({"completedAt>=1970-01-12T11:00:00Z"}, fine));
  CHECK(actors::parse_history_filters({"startedAt>soon"}, 0).error().message == "invalid time soon");
  CHECK(actors::parse_history_filters({"duration>long"}, 0).error().message == "invalid duration long");
  CHECK_FALSE(actors::parse_history_filters({"status=completed"}, 0).ok());
}
