#include <catch2/catch.hpp>

#include "actors/failure_stack.hpp"
#include "actors/solve/graph_spec.hpp"
#include "fakes.hpp"
#include "solver/error_details.hpp"

using namespace kiln;
using namespace kiln::test;

using names = std::vector<std::string>;

namespace {

bool contains(const names& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

pb::Definition chain(const std::string& last = "make") {
  definition d;
  return d.finish(d.run(d.run(d.source("image"), "configure"), last));
}

pb::Definition copying(const std::string& session = "a", const std::string& after = "make") {
  definition d;
  auto base = d.source("image");
  auto context = d.source("local://" + session);
  return d.finish(d.run(d.copy(base, context, "/src"), after));
}

}  // namespace

TEST_CASE_METHOD(graph_fixture, "a definition is run once, inputs first") {
  auto c = build(chain());
  REQUIRE(c.ok());
  CHECK(script->ran == names{"image", "configure", "make"});
  CHECK(c.ref() == script->ref_of["make"]);
  CHECK(c.log->completed() == names{"image", "image", "configure", "make"});
  CHECK(c.log->logs() == "log of image\nlog of configure\nlog of make\n");
}

TEST_CASE_METHOD(graph_fixture, "a second build is answered from the cache and moves nothing") {
  auto first = build(chain());
  leave(first);
  script->ran.clear();
  auto second = build(chain());
  CHECK(second.ref() == first.ref());
  CHECK(script->ran.empty());
  CHECK(script->hashed.empty());
  CHECK(contains(second.log->completed(), "configure cached"));
  CHECK(contains(second.log->completed(), "make cached"));
}

TEST_CASE_METHOD(graph_fixture, "only what changed is run again") {
  auto first = build(chain());
  leave(first);
  script->ran.clear();
  auto second = build(chain("make install"));
  CHECK(second.ok());
  CHECK(script->ran == names{"make install"});
}

TEST_CASE_METHOD(graph_fixture, "equal content hits although the session changed") {
  script->source_keys = {{"local://a", "session:a"}, {"local://b", "session:b"}};
  script->contents = {{"local://a", sha256("files")}, {"local://b", sha256("files")}};
  auto first = build(copying("a"));
  REQUIRE(first.ok());
  CHECK(script->ran.size() == 4);
  leave(first);
  script->ran.clear();
  script->hashed.clear();
  auto second = build(copying("b"));
  CHECK(second.ref() == first.ref());
  CHECK(script->ran == names{"local://b"});  // transferred to look, nothing else
  CHECK(script->hashed.size() == 1);         // the image was neither pulled nor hashed
  leave(second);

  script->contents["local://b"] = sha256("edited files");
  script->ran.clear();
  auto third = build(copying("b"));
  CHECK(third.ref() != first.ref());
  CHECK(script->ran == names{"local://b", "copy /src", "make"});
}

TEST_CASE_METHOD(graph_fixture, "a step after a copy is found without running the copy") {
  script->source_keys = {{"local://a", "session:a"}, {"local://b", "session:b"}};
  script->contents = {{"local://a", sha256("files")}, {"local://b", sha256("files")}};
  auto first = build(copying("a"));
  leave(first);
  // The copy's own result is gone, the step's is not.
  script->refs.erase(script->ref_of["copy /src"]);
  script->ran.clear();
  auto second = build(copying("b"));
  CHECK(second.ref() == first.ref());
  CHECK(script->ran == names{"local://b"});
}

TEST_CASE_METHOD(graph_fixture, "a result that is gone is made again from its inputs") {
  auto first = build(chain());
  leave(first);
  script->refs.erase(script->ref_of["make"]);
  script->ran.clear();
  auto second = build(chain());
  REQUIRE(second.ok());
  CHECK(script->ran == names{"make"});
  leave(second);
  script->refs.clear();
  script->ran.clear();
  auto third = build(chain());
  CHECK(third.ok());
  CHECK(script->ran == names{"image", "configure", "make"});
}

TEST_CASE_METHOD(graph_fixture, "two builds share a running vertex and both see all of its log") {
  script->hold = true;
  auto first = build(chain());
  CHECK(script->ran == names{"image"});
  auto second = build(chain("make install"));
  CHECK(script->ran == names{"image"});
  script->hold = false;
  resume();
  CHECK(first.ok());
  CHECK(second.ok());
  CHECK(script->ran.size() == 4);
  CHECK(second.log->logs().find("log of image") != std::string::npos);
  CHECK(second.log->logs().find("log of configure") != std::string::npos);
}

TEST_CASE_METHOD(graph_fixture, "a step that builds share has the laxest of their limits") {
  auto limited = [](std::int64_t memory) {
    definition d;
    auto configure = d.run(d.source("image"), "configure");
    if (memory != 0) (*d.def.mutable_metadata())[configure].mutable_linux_resources()->set_memory(memory);
    return d.finish(configure);
  };
  script->hold = true;
  auto first = build(limited(64));
  auto second = build(limited(128));
  auto third = build(limited(0));  // says nothing
  resume();
  REQUIRE(script->held.size() == 1);
  CHECK(script->held.front().what == "configure");
  CHECK(script->held.front().request.op.metadata.linux_resources().memory() == 128);
  resume();
  CHECK((first.ok() && second.ok() && third.ok()));
}

TEST_CASE_METHOD(graph_fixture, "a step knows whose the layers are that it may have to bring to the disk") {
  script->hold = true;
  auto c = build(chain());
  auto image = script->held.front().request.op.vertex;
  resume();
  REQUIRE(script->held.size() == 1);
  CHECK(script->held.front().request.owners == result_owners{{script->ref_of["image"], image}});
  // It says when it begins, and what it does for others is told in their name.
  ctl::StatusResponse told;
  told.add_vertexes()->set_digest(image);
  told.mutable_vertexes(0)->mutable_started()->set_seconds(1);
  told.add_statuses()->set_vertex(image);
  caf::anon_send(script->held.front().progress, told);
  sched.run();
  CHECK(c.log->all.back().vertexes(0).digest() == image);
  CHECK(c.log->all.back().statuses(0).vertex() == image);
  ctl::StatusResponse begun;
  begun.add_vertexes()->set_digest(script->held.front().request.op.vertex);
  begun.mutable_vertexes(0)->mutable_started()->set_seconds(2);
  auto before = c.log->completed();
  caf::anon_send(script->held.front().progress, begun);
  sched.run();
  CHECK(c.log->all.back().vertexes(0).name() != "");
  CHECK(c.log->all.back().vertexes(0).has_started());
  CHECK(c.log->completed() == before);
  resume();
  // What was written is on disk, and all below.
  REQUIRE(script->held.size() == 1);
  CHECK(script->held.front().what == "make");
  CHECK(script->held.front().request.owners.empty());
  resume();
  CHECK(c.ok());
}

TEST_CASE_METHOD(graph_fixture, "equal work under different definitions runs once") {
  // Two sources that resolve to the same thing: their users differ by digest, not by key.
  script->source_keys = {{"image:latest", "sha256:1"}, {"image:3", "sha256:1"}};
  definition a, b;
  a.finish(a.run(a.source("image:latest"), "make"));
  b.finish(b.run(b.source("image:3"), "make"));
  script->hold = true;
  auto first = build(a.def);
  auto second = build(b.def);
  CHECK(script->ran.size() == 1);  // one of the sources; the other follows it
  resume();
  CHECK(script->ran.size() == 2);
  resume();
  REQUIRE(first.ok());
  CHECK(first.ref() == second.ref());
  CHECK(second.log->logs().find("log of make") != std::string::npos);
}

TEST_CASE_METHOD(graph_fixture, "work is cancelled when its last build leaves, not before") {
  script->hold = true;
  auto first = build(chain());
  auto second = build(chain());
  leave(first);
  CHECK(script->cancelled.empty());
  leave(second);
  CHECK(script->cancelled == names{"image"});
  CHECK(script->held.empty());
  script->hold = false;
  auto third = build(chain());
  CHECK(third.ok());
}

TEST_CASE_METHOD(graph_fixture, "work shared by key survives the build that began it") {
  script->source_keys = {{"image:latest", "sha256:1"}, {"image:3", "sha256:1"}};
  definition a, b;
  a.finish(a.run(a.source("image:latest"), "make"));
  b.finish(b.run(b.source("image:3"), "make"));
  script->hold = true;
  auto first = build(a.def);
  auto second = build(b.def);
  leave(first);
  CHECK(script->cancelled.empty());
  script->hold = false;
  resume();
  CHECK(second.ok());
  CHECK(script->ran.size() == 2);
}

TEST_CASE_METHOD(graph_fixture, "a failure names its vertex and reaches everyone once") {
  script->failures["configure"] =
      make_error(errc::unknown, "process \"configure\" did not complete successfully: exit code: 1");
  auto c = build(chain());
  REQUIRE(c.answers->size() == 1);
  REQUIRE_FALSE(c.ok());
  CHECK(c.failure().message == "process \"configure\" did not complete successfully: exit code: 1");
  CHECK(solver::has_detail(c.failure(), solver::vertex_detail_type));
  CHECK(solver::has_detail(c.failure(), solver::solve_detail_type));
  CHECK(solver::has_detail(c.failure(), kiln::stack_detail_type));
  CHECK(c.failure().details.size() == 3);
  CHECK_FALSE(contains(script->ran, "make"));
  CHECK(c.log->completed().back().starts_with("configure error: process"));
  leave(c);
  // Failures are not remembered beyond the builds that saw them.
  script->failures.clear();
  CHECK(build(chain()).ok());
}

TEST_CASE_METHOD(graph_fixture, "a source that cannot be resolved fails every build of it") {
  script->failures["key image"] = make_error(errc::not_found, "image: not found");
  auto c = build(chain());
  CHECK(c.failure().code == errc::not_found);
  // Whoever asked learns what was being done; the vertex itself shows only what went wrong.
  CHECK(c.failure().message == "failed to load cache key: image: not found");
  CHECK(script->ran.empty());
}

TEST_CASE_METHOD(graph_fixture, "a missing path in a copy is told with its input") {
  script->source_keys = {{"local://a", "session:a"}};
  script->failures["hash local://a"] =
      make_error(errc::not_found, "failed to calculate checksum of ref 1: \"/src\": not found");
  auto c = build(copying("a"));
  REQUIRE_FALSE(c.ok());
  CHECK(c.failure().message ==
        "failed to compute cache key: failed to calculate checksum of ref 1: \"/src\": not found");
  CHECK(c.failure().code == errc::unknown);
  // So that clients can look into it.
  CHECK(solver::refs_of(c.failure()) == names{script->ref_of["local://a"]});
}

TEST_CASE_METHOD(graph_fixture, "what a worker tells of a failed step's refs is told on, once") {
  auto failure = make_error(errc::unknown, "exit code: 1");
  names inputs{"image#1"}, mounts{"left#1"};
  failure.details.push_back(solver::solve_detail({}, {}, inputs, mounts));
  script->failures["make"] = failure;
  auto c = build(chain());
  REQUIRE_FALSE(c.ok());
  CHECK(solver::refs_of(c.failure()) == names{"image#1", "left#1"});
  CHECK(std::count_if(c.failure().details.begin(), c.failure().details.end(),
                      [](const auto& d) { return d.type_url == solver::solve_detail_type; }) == 1);
}

TEST_CASE_METHOD(graph_fixture, "no-cache steps run every time and feed the cache of others") {
  definition d;
  auto image = d.source("image");
  d.finish(d.run(d.run(image, "date", true), "make"));
  auto first = build(d.def);
  leave(first);
  script->ran.clear();
  auto second = build(d.def);
  CHECK(second.ok());
  CHECK(contains(script->ran, "date"));
  CHECK_FALSE(contains(script->ran, "image"));
  leave(second);
  definition cached;
  cached.finish(cached.run(cached.source("image"), "date"));
  script->ran.clear();
  CHECK(build(cached.def).ok());
  CHECK(script->ran.empty());
}

TEST_CASE_METHOD(graph_fixture, "a cached request joins a running no-cache vertex, not the reverse") {
  definition cached, fresh;
  cached.finish(cached.run(cached.source("image"), "date"));
  fresh.finish(fresh.run(fresh.source("image"), "date", true));
  auto warm = build(cached.def);
  leave(warm);
  script->ran.clear();
  script->hold = true;
  auto one = build(fresh.def);
  CHECK(script->ran == names{"date"});
  auto two = build(cached.def);
  CHECK(script->ran == names{"date"});
  CHECK(two.answers->empty());  // waits for the fresh one
  auto three = build(fresh.def);
  resume();
  CHECK(one.ref() == two.ref());
  CHECK(one.ref() == three.ref());
  leave(one);
  leave(two);
  leave(three);

  script->ran.clear();
  script->refs.clear();
  auto slow = build(cached.def);  // runs: its results are gone
  resume();
  CHECK(script->ran == names{"image", "date"});
  auto forced = build(fresh.def);
  CHECK(script->ran == names{"image", "date", "date"});
  resume();
  CHECK(slow.ref() != forced.ref());
}

TEST_CASE_METHOD(graph_fixture,
                 "builds of a vertex that dies are answered, and the next build makes a new one") {
  script->hold = true;
  auto c = ask(chain());
  // Find the vertex that is running and kill it.
  sched.run();
  REQUIRE(script->held.size() == 1);
  auto source = script->held.front().requester;
  caf::anon_send_exit(caf::actor_cast<caf::actor>(source), caf::exit_reason::kill);
  source = nullptr;
  sched.run();
  REQUIRE(c.answers->size() == 1);
  CHECK_FALSE(c.ok());
  CHECK(script->cancelled == names{"image"});
  script->hold = false;
  leave(c);
  CHECK(build(chain()).ok());
}

TEST_CASE_METHOD(graph_fixture, "a worker that dies fails its builds and nothing hangs") {
  script->hold = true;
  auto c = ask(chain());
  sched.run();
  caf::anon_send_exit(worker, caf::exit_reason::kill);
  script->held.clear();
  sched.run();
  worker = system.spawn(fake_worker, script);
  registry->put(actors::peers::worker_name, caf::actor_cast<caf::actor>(worker));
  script->hold = false;
  leave(c);
  CHECK(build(chain()).ok());
}

TEST_CASE_METHOD(graph_fixture, "an output that does not exist is refused") {
  auto g = solver::load(chain(), {});
  auto spec = actors::to_spec(*g, "");
  auto log = std::make_shared<progress_log>();
  auto holder = system.spawn(collector, log);
  caf::scoped_actor self{system};
  vertex_actor root;
  auto loading = self->request(graph, caf::infinite, load_atom::value, spec, holder, std::string());
  sched.run();
  loading.receive([&](const vertex_actor& v) { root = v; }, [](caf::error&) { FAIL(); });
  auto asking = self->request(root, caf::infinite, result_atom::value, std::int32_t{7});
  sched.run();
  asking.receive([](const vertex_result&) { FAIL(); },
                 [](caf::error& e) { CHECK(from_caf(e).message.find("no") != std::string::npos); });
  caf::anon_send_exit(holder, caf::exit_reason::user_shutdown);
  sched.run();
}
