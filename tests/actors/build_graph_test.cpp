#include "actors/solve/build_graph.hpp"

#include <catch2/catch.hpp>

#include "actors/solve/graph_spec.hpp"
#include "fakes.hpp"
#include "solver/graph.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

/// Who asked for a definition to be placed, in the order in which they were answered.
struct placing_fixture : graph_fixture {
  std::shared_ptr<std::vector<std::string>> answered = std::make_shared<std::vector<std::string>>();

  std::shared_ptr<std::vector<vertex_actor>> roots = std::make_shared<std::vector<vertex_actor>>();

  ~placing_fixture() { roots->clear(); }

  static graph_spec spec_of(const std::string& who, int steps) {
    definition d;
    auto last = d.source("image");
    for (int i = 0; i < steps; ++i) last = d.run(last, who + std::to_string(i));
    return actors::to_spec(*solver::load(d.finish(last), {}), "");
  }
  progress_actor place(const std::string& who, int steps) {
    auto spec = spec_of(who, steps);
    auto holder = system.spawn(collector, std::make_shared<progress_log>());
    system.spawn(
        [=, answered = answered, roots = roots, graph = graph](caf::event_based_actor* self, caf::unit_t) {
          self->request(graph, caf::infinite, load_atom::value, spec, holder, std::string("session"))
              .then(
                  [=](const vertex_actor& root) {
                    roots->push_back(root);
                    answered->push_back(who);
                  },
                  [=](caf::error& e) { answered->push_back(who + ": " + from_caf(e).message); });
        },
        caf::unit);
    return holder;
  }
};

using names = std::vector<std::string>;

}  // namespace

TEST_CASE_METHOD(placing_fixture, "while a large definition is placed, others are answered") {
  auto small = place("small", 3);
  sched.run();
  auto claim = [&](const std::string& who) {
    system.spawn(
        [=, answered = answered, graph = graph, root = roots->front()](caf::event_based_actor* self,
                                                                       caf::unit_t) {
          self->request(graph, caf::infinite, claim_atom::value, who, root)
              .then([=](const vertex_actor&) { answered->push_back(who); }, [](caf::error&) {});
        },
        caf::unit);
  };
  auto large = place("large", 1'000);
  claim("claim");
  sched.run();
  CHECK(*answered == names{"small", "claim", "large"});
}

TEST_CASE_METHOD(placing_fixture, "who leaves while its definition is placed leaves nothing there") {
  auto before = system.registry().running();
  auto large = place("large", 1'000);
  while (system.registry().running() < before + 20) sched.run_once();
  caf::anon_send(graph, release_atom::value, large);
  sched.run();
  CHECK(*answered == names{"large: context canceled"});
  caf::anon_send_exit(large, caf::exit_reason::user_shutdown);
  large = nullptr;
  sched.run();
  CHECK(system.registry().running() == before);
  auto small = place("small", 3);
  sched.run();
  CHECK(answered->back() == "small");
}

TEST_CASE_METHOD(placing_fixture, "what somebody leaves just now is joined with all that it is built on") {
  auto first = place("shared", 1'000);
  sched.run();
  auto second = system.spawn(collector, std::make_shared<progress_log>());
  caf::scoped_actor self{system};
  // Both are there before either is done: what one lets go of, the other takes, in turns.
  caf::anon_send(graph, release_atom::value, first);
  auto placed = self->request(graph, caf::infinite, load_atom::value, spec_of("shared", 1'000), second,
                              std::string("session"));
  sched.run();
  vertex_actor root;
  placed.receive([&](const vertex_actor& r) { root = r; }, [&](caf::error& e) { FAIL(from_caf(e).message); });
  // It is made from its source on: nothing of it is of what has gone.
  std::string outcome;
  auto asked = self->request(root, caf::infinite, result_atom::value, std::int32_t{0});
  sched.run();
  asked.receive([&](vertex_result& r) { outcome = r.ref.empty() ? "nothing" : "made"; },
                [&](caf::error& e) { outcome = from_caf(e).message; });
  CHECK(outcome == "made");
  root = nullptr;
}
