#include <catch2/catch.hpp>

#include "actors/solve/vertex_phase.hpp"

using namespace kiln::actors;
using enum vertex_phase;

namespace {

constexpr vertex_phase all[] = {idle,      keying,  probing, collecting, claiming,
                                following, running, saving,  done,       failed};

}  // namespace

TEST_CASE("every phase of a vertex can be reached, and left, but for failure") {
  for (auto p : all) {
    INFO(name_of(p));
    bool entered = p == idle, left = p == failed;
    for (auto other : all) {
      entered = entered || (other != p && may_follow(other, p));
      left = left || (other != p && may_follow(p, other));
    }
    CHECK(entered);
    CHECK(left);
  }
}

TEST_CASE("work is only begun once it is claimed, and results are only taken from work that ran") {
  for (auto p : all) {
    INFO(name_of(p));
    CHECK(may_follow(p, running) == (p == claiming));
    CHECK(may_follow(p, saving) == (p == running));
    CHECK(may_follow(p, done) == (p == saving));
    CHECK_FALSE(may_follow(failed, p));
    CHECK_FALSE(may_follow(p, idle));
  }
  CHECK_FALSE(may_follow(saving, failed));
  CHECK_FALSE(may_follow(done, failed));
}

TEST_CASE("a move there must not be is an error that names both phases, and changes nothing") {
  vertex_progression p;
  p.move_to(keying);
  p.move_to(keying);
  CHECK_THROWS_WITH(p.move_to(running), "a vertex cannot be running after it was keying");
  CHECK(p == keying);
  p.move_to(failed);
  CHECK_THROWS(p.move_to(probing));
}
