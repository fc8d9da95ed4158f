// How functions become actors: with one argument at least, if a meaningless one (caf::unit), since without
// any CAF 0.17.6 dereferences a null pointer, which the standard library's assertions end the process for;
// and what threads that are none of CAF's spawn with.
#include <catch2/catch.hpp>

#include <regex>
#include <set>
#include <string>

#include "source_lines.hpp"

namespace {

/// A lambda that takes no more than its actor; a function by its name alone.
const std::regex without_argument{
    R"(\bspawn(<[^;(){}]*>)?\(\s*()"
    R"(\[[^\]]*\]\s*(\([^,()]*\))?\s*(mutable\b\s*)?(->[^{}]*)?\{|[a-z_][\w:]*\)))"};

std::set<std::string> places(const std::regex& pattern, const std::set<std::string>& folders,
                             std::set<std::string> allowed = {}) {
  allowed.insert("tests/architecture/spawn_test.cpp");
  return kiln::architecture::lines_with(pattern, folders, allowed);
}

}  // namespace

TEST_CASE("no function becomes an actor without an argument") {
  for (const auto& place : places(
           without_argument, {"messages", "actors", "supervisors", "gateway", "client", "apps", "tests"})) {
    INFO(place);
    CHECK(false);
  }
  for (const auto* bad :
       {"system.spawn([=](caf::event_based_actor* self) {", "system.spawn<caf::detached>([] { run(); });",
        "spawn([](caf::event_based_actor*) -> caf::behavior {", "self->spawn(fake_worker)"}) {
    INFO(bad);
    CHECK(std::regex_search(std::string(bad), without_argument));
  }
  for (const auto* good :
       {"system.spawn([=](caf::event_based_actor* self, caf::unit_t) {", "self->spawn(worker, options)",
        "system.spawn<root_actor>()", "spawn<caf::detached>([a, b](caf::event_based_actor* self, int x) {"}) {
    INFO(good);
    CHECK_FALSE(std::regex_search(std::string(good), without_argument));
  }
}

TEST_CASE("gRPC's threads spawn without staying in the system: it would not end before they do") {
  static const std::regex plain{R"(\bsystem_?(\.|->)spawn\b)"};  // actors/spawn_outside.hpp instead
  // The server's own actor is spawned by its supervisor, on a thread of the system's.
  for (const auto& place : places(plain, {"gateway"}, {"gateway/supervised_server.cpp"})) {
    INFO(place);
    CHECK(false);
  }
  CHECK_FALSE(places(plain, {"actors"}).empty());
}
