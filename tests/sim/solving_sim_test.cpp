// The real vertex and build_graph actors over a fake worker, the next message chosen by a seed.
//
// Survivable faults, injected at random: builds leave at any time, runs fail, results are evicted, vertices
// are killed. Checked from outside: every build is answered exactly once; an answer is either a failure that
// was injected or a result whose content is what the definition says, computed without any of the code
// under test; equal work never runs twice at the same time; nothing is left when all builds have gone.
#include <catch2/catch.hpp>

#include <functional>
#include <map>
#include <random>

#include "../actors/fakes.hpp"
#include "solver/graph.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

/// What a definition's vertices contain, by their digest: the meaning of the fake ops.
class meaning {
 public:
  explicit meaning(std::map<std::string, std::string> sources) : sources_(std::move(sources)) {}

  std::string of_source(const std::string& identifier) const {
    return "source(" + sources_.at(identifier) + ")";
  }
  static std::string of(const std::string& what, const std::vector<std::string>& inputs) {
    std::string text = what;
    for (const auto& input : inputs) text += "|" + input;
    return sha256(text).str();
  }
  std::string of_graph(const solver::graph& g) const {
    std::map<std::string, std::string> values;
    for (const auto& v : g.vertices) {
      std::vector<std::string> inputs;
      for (const auto& e : v.inputs) inputs.push_back(values.at(e.vertex.str()));
      values[v.digest.str()] =
          v.op.has_source() ? of_source(v.op.source().identifier()) : of(what_of(v.op), inputs);
    }
    return values.at(g.root.vertex.str());
  }

 private:
  std::map<std::string, std::string> sources_;
};

struct world : graph_fixture {
  std::mt19937 random;
  std::map<std::string, std::string> sources;   // identifier → content
  std::map<std::string, std::string> value_of;  // ref → content
  std::map<std::string, int> running;           // work → how often at this moment
  int overlapping = 0;

  explicit world(unsigned seed) : random(seed) {
    for (int i = 0; i < 3; ++i) sources["image" + std::to_string(i)] = "image" + std::to_string(i);
    // Two names of one image: equal keys under different definitions.
    sources["image0-alias"] = "image0";
    script->source_keys["image0-alias"] = "image0";
    // Local directories of several sessions; some have equal content.
    for (int i = 0; i < 6; ++i) {
      auto id = "local://" + std::to_string(i);
      sources[id] = "files" + std::to_string(i % 3);
      script->source_keys[id] = "session:" + id;
    }
    script->hold = true;
    script->content_of = [this](const std::string& ref) { return sha256(value_of.at(ref)); };
    script->started = [this](const std::string& work) { overlapping += ++running[work] > 1 ? 1 : 0; };
    script->ended = [this](const std::string& work) { --running[work]; };
    script->evaluate = [this](const run_request& r, const std::string& ref) {
      std::vector<std::string> inputs;
      for (const auto& input : r.inputs) inputs.push_back(value_of.at(input));
      value_of[ref] = r.op.op.has_source() ? meaning(sources).of_source(r.op.op.source().identifier())
                                           : meaning::of(what_of(r.op.op), inputs);
    };
  }

  unsigned pick(unsigned n) { return std::uniform_int_distribution<unsigned>(0, n - 1)(random); }
  bool chance(unsigned percent) { return pick(100) < percent; }

  /// One message, of an actor chosen at random.
  bool step() {
    if (sched.jobs.empty()) return false;
    std::swap(sched.jobs.front(), sched.jobs[pick(static_cast<unsigned>(sched.jobs.size()))]);
    return sched.try_run_once();
  }

  /// A random definition over few sources and few commands, so that builds share much.
  pb::Definition invent(bool ignores) {
    definition d;
    std::vector<std::string> made;
    auto count = 3 + pick(8);
    for (unsigned i = 0; i < count; ++i) {
      auto kind = made.empty() ? 0 : pick(6);
      auto any = [&] { return made[pick(static_cast<unsigned>(made.size()))]; };
      if (kind <= 1) {
        auto at = sources.begin();
        std::advance(at, pick(static_cast<unsigned>(sources.size())));
        made.push_back(d.source(at->first));
      } else if (kind <= 3) {
        made.push_back(d.run(any(), "cmd" + std::to_string(pick(3)), ignores && chance(20)));
      } else {
        made.push_back(d.copy(any(), any(), "/src" + std::to_string(pick(2))));
      }
    }
    return d.finish(made.back());
  }
};

struct running_build {
  graph_fixture::client client;
  std::string expected;
  bool left = false;
};

void simulate(unsigned seed, bool faults, bool ignores) {
  world w(seed);
  std::vector<running_build> builds;
  auto to_start = 4 + w.pick(6);
  int idle = 0;
  for (int steps = 0; steps < 40'000 && idle < 3; ++steps) {
    auto event = w.pick(100);
    if (to_start > 0 && event < 3) {
      --to_start;
      auto def = w.invent(ignores);
      running_build b;
      b.expected = meaning(w.sources).of_graph(*solver::load(def, {}));
      b.client = w.ask(def);
      builds.push_back(std::move(b));
      idle = 0;
    } else if (event < 12 && !w.script->held.empty()) {
      // One held run ends, now and then badly.
      auto n = w.pick(static_cast<unsigned>(w.script->held.size()));
      bool bad = faults && w.chance(5);
      caf::anon_send(w.worker, release_atom::value, (bad ? "fail " : "finish ") + std::to_string(n));
      idle = 0;
    } else if (faults && event == 13 && !builds.empty()) {
      auto& b = builds[w.pick(static_cast<unsigned>(builds.size()))];
      if (!b.left && w.chance(30)) {
        b.left = true;
        caf::anon_send_exit(b.client.holder, caf::exit_reason::user_shutdown);
      }
    } else if (faults && event == 14 && !w.script->refs.empty()) {
      auto at = w.script->refs.begin();
      std::advance(at, w.pick(static_cast<unsigned>(w.script->refs.size())));
      w.script->refs.erase(at);
    } else if (faults && event == 15 && !w.script->held.empty() && w.chance(10)) {
      auto victim = w.script->held[w.pick(static_cast<unsigned>(w.script->held.size()))].requester;
      caf::anon_send_exit(caf::actor_cast<caf::actor>(victim), caf::exit_reason::kill);
    } else if (!w.step()) {
      idle = to_start == 0 && w.script->held.empty() ? idle + 1 : 0;
    }
  }
  INFO("seed " << seed);
  CHECK(to_start == 0);
  CHECK(w.script->held.empty());
  for (const auto& b : builds) {
    INFO("expects " << b.expected);
    if (!b.left) REQUIRE(b.client.answers->size() == 1);
    if (b.client.answers->empty()) continue;
    const auto& answer = b.client.answers->front();
    if (answer.ok()) {
      CHECK(w.value_of.at(answer->ref) == b.expected);
    } else {
      INFO(answer.error().message);
      CHECK(faults);
    }
  }
  if (!ignores && !faults) CHECK(w.overlapping == 0);
  for (auto& b : builds)
    if (!b.left) w.leave(b.client);
  w.sched.run();
  CHECK(w.script->held.empty());
}

}  // namespace

TEST_CASE("whatever the order of messages, every build gets what its definition says") {
  for (unsigned seed = 1; seed <= 60; ++seed) simulate(seed, false, false);
}

TEST_CASE("with steps that ignore the cache, too") {
  for (unsigned seed = 1; seed <= 40; ++seed) simulate(1'000 + seed, false, true);
}

TEST_CASE("faults fail builds, never corrupt or hang them") {
  for (unsigned seed = 1; seed <= 80; ++seed) simulate(2'000 + seed, true, seed % 2 == 0);
}
