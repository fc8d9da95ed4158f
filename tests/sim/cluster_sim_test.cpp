// A cluster under faults, chosen by a seed: nodes crash and come back, are cut off while their connections
// stand, lose refs; steps fail; vertices die; builds leave. Checked from outside: every build whose node
// lives is answered exactly once; an answer is a failure that was injected or a result that means what the
// definition says, and lies where its name says; nothing is left on any node (runs, pins) when all builds
// have gone; a credit that leaked would leave the last builds without an answer. A failure prints its seed:
// KILN_SIM_SEED=… runs that one alone, KILN_SIM_SEEDS=… how many.
#include <catch2/catch.hpp>

#include <cstdlib>

#include "cluster_world.hpp"
#include "solver/graph.hpp"

using namespace kiln;
using namespace kiln::test;
using namespace std::chrono_literals;

namespace {

struct running_build {
  cluster_world::client client;
  std::string node;
  std::uint64_t instance = 0;
  std::string expected;
  bool left = false;
};

std::string value(const std::string& what, const std::vector<std::string>& inputs) {
  std::string text = what;
  for (const auto& input : inputs) text += "|" + input;
  return sha256(text).str();
}

std::string expected_of(const pb::Definition& def, const std::map<std::string, std::string>& sources) {
  auto g = solver::load(def, {});
  std::map<std::string, std::string> values;
  for (const auto& v : g->vertices) {
    std::vector<std::string> inputs;
    for (const auto& e : v.inputs) inputs.push_back(values.at(e.vertex.str()));
    values[v.digest.str()] =
        v.op.has_source() ? sources.at(v.op.source().identifier()) : value(what_of(v.op), inputs);
  }
  return values.at(g->root.vertex.str());
}

/// A random definition over few sources and commands, so that builds share much.
pb::Definition invent(cluster_world& w, bool ignores) {
  definition d;
  std::vector<std::string> made;
  auto count = 3 + w.pick(8);
  for (unsigned i = 0; i < count; ++i) {
    auto kind = made.empty() ? 0 : w.pick(6);
    auto any = [&] { return made[w.pick(static_cast<unsigned>(made.size()))]; };
    if (kind <= 1) {
      auto at = w.sources.begin();
      std::advance(at, w.pick(static_cast<unsigned>(w.sources.size())));
      made.push_back(d.source(at->first));
    } else if (kind <= 3) {
      made.push_back(d.run(any(), "cmd" + std::to_string(w.pick(4)), ignores && w.chance(20)));
    } else {
      made.push_back(d.copy(any(), any(), "/src" + std::to_string(w.pick(2))));
    }
  }
  return d.finish(made.back());
}

/// What went wrong with this seed; empty when nothing did.
std::string simulate(unsigned seed, bool faults, int coordinators) {
  cluster_world w(seed, 3, 1 + static_cast<int>(seed % 2), coordinators);
  for (int i = 0; i < 3; ++i) w.sources["image" + std::to_string(i)] = "image" + std::to_string(i);
  // Other names of one image: equal keys under different definitions, so that vertices merge.
  w.sources["image0-alias"] = w.sources["image0-other"] = "image0";
  for (int i = 0; i < 4; ++i) w.sources["local://" + std::to_string(i)] = "files" + std::to_string(i % 2);
  for (auto& n : w.nodes)
    for (const auto& [id, content] : w.sources)
      n->script->source_keys[id] = id.starts_with("local://") ? "session:" + id : content;
  w.meaning = [&](const run_request& r, const std::vector<std::string>& inputs) {
    return r.op.op.has_source() ? w.sources.at(r.op.op.source().identifier())
                                : value(what_of(r.op.op), inputs);
  };
  w.settle(2s);

  std::vector<running_build> builds;
  auto to_start = 4 + w.pick(5);
  int killed = 0;  // vertices
  auto all_nodes = static_cast<unsigned>(w.nodes.size());
  auto begin = [&](sim_node& at, const pb::Definition& def) {
    running_build b;
    b.node = at.info.name;
    b.instance = at.info.instance;
    b.expected = expected_of(def, w.sources);
    b.client = w.ask(at, def);
    builds.push_back(std::move(b));
  };
  auto alive = [&](const running_build& b) {
    const auto& n = w.named(b.node);
    return n.up && n.info.instance == b.instance;
  };
  for (int steps = 0, idle = 0; steps < 60'000 && idle < 40; ++steps) {
    auto event = w.pick(1000);
    auto& node = *w.nodes[w.pick(all_nodes)];
    if (to_start > 0 && event < 20) {
      if (!node.up) continue;
      --to_start;
      begin(node, invent(w, seed % 3 == 0));
    } else if (event < 80 && w.finish_one(faults && w.chance(2))) {
      idle = 0;
    } else if (faults && event == 80 && node.up && w.chance(40)) {
      w.crash(node);
    } else if (faults && event == 81 && w.chance(40)) {
      w.cut_off(node);
    } else if (faults && event < 86 && event > 81) {
      w.heal();
    } else if (event < 92 && event > 85) {
      if (!node.up && w.chance(30)) w.start(node);
    } else if (faults && event == 92 && node.up && !node.refs.empty()) {
      auto at = node.refs.begin();
      std::advance(at, w.pick(static_cast<unsigned>(node.refs.size())));
      if (!node.script->is_pinned(*at)) {
        node.script->refs.erase(*at);
        node.refs.erase(at);
      }
    } else if (faults && (event == 93 || event == 96 || event == 97) && !builds.empty()) {
      auto& b = builds[w.pick(static_cast<unsigned>(builds.size()))];
      if (!b.left && w.chance(40)) {
        b.left = true;
        caf::anon_send_exit(b.client.holder, caf::exit_reason::user_shutdown);
      }
    } else if (faults && event == 95 && node.up && !node.script->held.empty() && w.chance(20)) {
      auto& victim = node.script->held[w.pick(static_cast<unsigned>(node.script->held.size()))];
      caf::anon_send_exit(victim.progress, caf::exit_reason::kill);
      ++killed;
    } else if (event == 94) {
      w.pass(std::chrono::milliseconds(1 + w.pick(800)));
    } else if (!w.step()) {
      w.pass(250ms);
      if (to_start == 0 && w.held() == 0) ++idle;
    } else {
      continue;
    }
    if (w.held() > 0) idle = 0;
  }

  // Everything works again, and what was begun comes to its end.
  w.heal();
  for (auto& n : w.nodes)
    if (!n->up) w.start(*n);
  auto finish_all = [&] {
    for (int i = 0; i < 400; ++i) {
      w.settle(500ms);
      if (w.held() == 0) break;
      while (w.finish_one(false)) w.settle(0ns);
    }
    w.settle(6s);
    for (int i = 0; i < 200 && w.held() > 0; ++i) {
      while (w.finish_one(false)) w.settle(0ns);
      w.settle(1s);
    }
  };
  finish_all();
  // One more build on each node: no credit may have been lost.
  for (auto& n : w.nodes) begin(*n, invent(w, false));
  finish_all();

  if (std::getenv("KILN_SIM_TRACE")) {
    std::size_t answered = 0, good = 0;
    for (const auto& b : builds)
      if (!b.client.answers->empty()) ++answered, good += b.client.answers->front().ok() ? 1 : 0;
    std::fprintf(stderr, "seed %u: %zu builds, %zu answered, %zu good, %d steps away; runs", seed,
                 builds.size(), answered, good, w.away);
    for (const auto& n : w.nodes)
      std::fprintf(stderr, " %s=%zu", n->info.name.c_str(), n->script->ran.size());
    std::fprintf(stderr, "\n");
  }
  for (auto& v : w.violations) return v;
  for (const auto& b : builds) {
    if (b.left || !alive(b)) continue;
    if (b.client.answers->size() != 1)
      return "a build at " + b.node + " has " + std::to_string(b.client.answers->size()) + " answers";
    const auto& answer = b.client.answers->front();
    if (answer.ok()) {
      auto at = placed(b.node, answer->ref);
      auto found = w.value_of.find(at);
      if (found == w.value_of.end()) return "nobody has made " + at;
      if (found->second != b.expected) return "wrong result " + at;
    } else if (!faults) {
      return "failed without a fault: " + answer.error().message;
    } else if (const auto& text = answer.error().message;
               text.find("boom") == std::string::npos &&
               // All who run steps may have been away for long.
               (coordinators == 0 || text.find("none has joined in time") == std::string::npos) &&
               (killed == 0 ||
                (text.find("receiver_down") == std::string::npos &&
                 text.find("canceled") == std::string::npos && text.find(" died: ") == std::string::npos))) {
      return "failed, but not by an injected failure: " + answer.error().message;
    }
  }
  for (auto& b : builds)
    if (!b.left) caf::anon_send_exit(b.client.holder, caf::exit_reason::user_shutdown);
  w.settle(6s);
  if (w.held() > 0) return "steps run for nobody";
  for (const auto& n : w.nodes)
    if (!n->script->pins.empty()) return "pins are left on node " + n->info.name;
  return "";
}

unsigned number(const char* variable, unsigned otherwise) {
  auto* text = std::getenv(variable);
  return text ? static_cast<unsigned>(std::strtoul(text, nullptr, 10)) : otherwise;
}

void run_seeds(unsigned first, unsigned count, bool faults, int coordinators = 0) {
  if (auto only = number("KILN_SIM_SEED", 0)) {
    first = only;
    count = 1;
  }
  for (unsigned seed = first; seed < first + count; ++seed) {
    auto wrong = simulate(seed, faults, coordinators);
    INFO("seed " << seed);
    REQUIRE(wrong == "");
  }
}

}  // namespace

TEST_CASE("a cluster gives every build what its definition says", "[cluster]") { run_seeds(1, 20, false); }

TEST_CASE("no fault of a node or the network fails a build, corrupts or hangs it", "[cluster][faults]") {
  run_seeds(10'000, number("KILN_SIM_SEEDS", 40), true);
}

TEST_CASE("nor where a node only coordinates and the others are all there is to run steps", "[cluster]") {
  run_seeds(30'000, number("KILN_SIM_SEEDS", 40), true, 1);
}
