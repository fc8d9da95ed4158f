// Vertices that look keys up in imported caches, and what they tell of themselves for cache exports.
#include <catch2/catch.hpp>

#include "actors/worker/cache_scope.hpp"
#include "fakes.hpp"
#include "solver/cache_key.hpp"
#include "solver/cache_map.hpp"
#include "solver/graph.hpp"
#include "solver/remote_cache/chains.hpp"

using namespace kiln;
using namespace kiln::test;
namespace rc = kiln::solver::remote_cache;

namespace {

rc::layer_chain result_of(const std::string& name) {
  descriptor d;
  d.media_type = "application/vnd.oci.image.layer.v1.tar";
  d.digest = sha256(name);
  return {5, {d}};
}

/// The op of the n-th step of a definition, with the platform it is keyed for.
solver::cache_map map_of(const pb::Definition& def, int n) {
  auto g = solver::load(def, {});
  const auto& v = g->vertices.at(static_cast<std::size_t>(n));
  return solver::cache_map_of(v.op, v.platform).value();
}

/// image → first → second, as some other daemon exported it.
struct exported_chain {
  definition d;
  pb::Definition def;
  rc::chains chains;
  std::size_t first, second;
  std::string first_id, second_id;  // of their results

  exported_chain() {
    auto second_run = d.run(d.run(d.source("image"), "first"), "second");
    def = d.finish(second_run);
    auto image = *chains.add(solver::root_key(solver::source_cache_map("image").op_digest.str(), 0), {});
    auto map1 = map_of(def, 1), map2 = map_of(def, 2);
    first =
        *chains.add(solver::root_key(map1.op_digest.str(), 0), {{{image, map1.dependencies[0].selector}}});
    second =
        *chains.add(solver::root_key(map2.op_digest.str(), 0), {{{first, map2.dependencies[0].selector}}});
  }
  std::shared_ptr<exporters::imported_cache> import(const std::string& id) {
    auto m = chains.marshal();
    rc::imported_graph graph;
    REQUIRE(graph.add(m.config, m.layers).ok());
    auto out = std::make_shared<exporters::imported_cache>("a registry", std::move(graph), nullptr, true);
    out->set_table_id(id);
    return out;
  }
};

}  // namespace

TEST_CASE("a result of an imported cache is loaded instead of running, and known here afterwards") {
  exported_chain other;
  other.chains.add_result(other.second, result_of("two"));
  graph_fixture f;
  f.imports->put("build/cache", other.import("build/cache"));
  auto c = f.build(other.def, {"build/cache"});
  REQUIRE(c.ok());
  CHECK(c.ref() == "imported#1");
  CHECK(f.script->ran.empty());
  CHECK(f.script->imported.size() == 1);
  CHECK(c.log->completed() == std::vector<std::string>{"image", "second cached"});
  f.leave(c);

  // The import is gone, and the result is still known: by keys that the import gave.
  f.imports->erase("build/cache");
  bool saved = false;
  for (const auto& [key, results] : f.keys.by_key)
    for (const auto& r : results) saved |= r.id == "imported#1" && r.created_at_ns == 5;
  CHECK(saved);
}

TEST_CASE("what the cache lacks is run on top of what it has") {
  exported_chain other;
  other.chains.add_result(other.first, result_of("one"));
  graph_fixture f;
  f.imports->put("i", other.import("i"));
  auto c = f.build(other.def, {"i"});
  REQUIRE(c.ok());
  CHECK(c.ref() == "second#2");
  CHECK(f.script->ran == std::vector<std::string>{"second"});
  f.leave(c);
  // Both steps are cached here now, without the import.
  f.imports->erase("i");
  auto again = f.build(other.def);
  CHECK(again.ref() == "second#2");
  CHECK(f.script->ran == std::vector<std::string>{"second"});
}

TEST_CASE("an imported result that cannot be loaded is a miss") {
  exported_chain other;
  other.chains.add_result(other.first, result_of("one"));
  other.chains.add_result(other.second, result_of("two"));
  graph_fixture f;
  auto import = other.import("i");
  for (const auto& key : import->children(
           import
               ->children(solver::root_key(solver::source_cache_map("image").op_digest.str(), 0),
                          {0, 0, map_of(other.def, 1).op_digest.str(),
                           map_of(other.def, 1).dependencies[0].selector})
               .at(0),
           {0, 0, map_of(other.def, 2).op_digest.str(), map_of(other.def, 2).dependencies[0].selector}))
    f.script->failures["import " + import->results(key).at(0).id] =
        make_error(errc::unavailable, "registry is down");
  f.imports->put("i", std::move(import));
  auto c = f.build(other.def, {"i"});
  REQUIRE(c.ok());
  CHECK(f.script->ran == std::vector<std::string>{"second"});
  CHECK(f.script->imported.size() == 2);
}

TEST_CASE("no-cache steps do not look into imported caches") {
  exported_chain other;
  other.chains.add_result(other.second, result_of("two"));
  definition d;
  pb::Definition def = d.finish(d.run(d.run(d.source("image"), "first"), "second", true));
  graph_fixture f;
  f.imports->put("i", other.import("i"));
  auto c = f.build(def, {"i"});
  REQUIRE(c.ok());
  CHECK(f.script->imported.empty());
}

TEST_CASE("a build's steps are told with their keys, refs and inputs") {
  graph_fixture f;
  definition d;
  auto image = d.source("image");
  auto run = d.run(image, "make");
  auto c = f.build(d.finish(run));
  REQUIRE(c.ok());
  auto steps = std::make_shared<cache_steps>();
  f.system.spawn(
      [=, graph = f.graph, holder = c.holder](caf::event_based_actor* self, caf::unit_t) {
        self->request(graph, caf::infinite, cache_atom::value, holder).then([=](cache_steps& s) {
          *steps = std::move(s);
        });
      },
      caf::unit);
  f.sched.run();
  REQUIRE(steps->steps.size() == 2);
  cache_trail trail{steps->steps, {c.answers->front().value()}, {}};
  auto scope = actors::scope_of(trail, nullptr);
  REQUIRE(scope.results.size() == 1);
  const auto& top = scope.steps.at(scope.results[0]);
  CHECK(top.ref == "make#2");
  CHECK_FALSE(top.keys.empty());
  REQUIRE(top.inputs.size() == 1);
  CHECK(scope.steps.at(top.inputs[0]).inputs.empty());
  CHECK(scope.steps.at(top.inputs[0]).keys ==
        std::vector<std::string>{solver::root_key(solver::source_cache_map("image").op_digest.str(), 0)});
}

TEST_CASE("a result whose step is not known is exported as a step of its own") {
  cache_trail trail;
  trail.steps = {{"v1", 0, {"k1"}, "r1", {}, 0, "", {}, {}, "", "", "", "", ""},
                 {"v2", 0, {"k2", "k3"}, "r2", {{"v1", 0}, {"gone", 0}}, 1, "", {}, {}, "", "", "", "", ""}};
  trail.results = {{"r2", {"k3"}}, {"r9", {"k9"}}};
  auto scope = actors::scope_of(trail, nullptr);
  CHECK(scope.results == std::vector<std::size_t>{1, 2});
  CHECK(scope.steps[0].export_cache == false);
  CHECK(scope.steps[1].export_cache == true);
  CHECK(scope.steps[1].inputs == std::vector<std::size_t>{0});
  CHECK(scope.steps[2].ref == "r9");
}
