#include "actors/handle_rest.hpp"

#include <catch2/catch.hpp>

#include "fakes.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

using small_actor = caf::typed_actor<caf::replies_to<std::string>::with<std::string>,
                                     caf::replies_to<describe_atom, std::int32_t>::with<bool>,
                                     caf::reacts_to<done_atom>, caf::reacts_to<release_atom, std::string>>;

struct seen {
  std::vector<std::string> all;
};

small_actor::behavior_type shown(small_actor::pointer, std::shared_ptr<seen> s) {
  return actors::handle_rest<small_actor>(
      [s]<class Reply, class... Parts>(Parts&&...) -> caf::result<Reply> {
        s->all.push_back("asked for " + std::to_string(sizeof...(Parts)));
        return to_caf(make_error(errc::unimplemented, "the rest"));
      },
      [s](auto&&... parts) { s->all.push_back("told " + std::to_string(sizeof...(parts))); },
      // In another order than the interface has.
      [s](release_atom, const std::string& what) { s->all.push_back("released " + what); },
      [s](std::string& text) { return text + "!"; });
}

}  // namespace

TEST_CASE("what an actor does not handle itself goes to one handler for questions, or one for news") {
  test_config config;
  caf::actor_system system{config};
  auto& sched = test::stepped_scheduler::of(system);
  auto s = std::make_shared<seen>();
  auto actor = system.spawn(shown, s);
  system.spawn(
      [actor, s](caf::event_based_actor* self, caf::unit_t) {
        self->request(actor, caf::infinite, std::string("own")).then([s](const std::string& text) {
          s->all.push_back(text);
        });
        self->request(actor, caf::infinite, describe_atom::value, std::int32_t{7})
            .then([s](bool) { s->all.push_back("an answer"); },
                  [s](caf::error& e) { s->all.push_back(from_caf(e).message); });
        self->send(actor, done_atom::value);
        self->send(actor, release_atom::value, std::string("it"));
      },
      caf::unit);
  sched.run();
  std::sort(s->all.begin(), s->all.end());
  CHECK(s->all == std::vector<std::string>{"asked for 2", "own!", "released it", "the rest", "told 1"});
  caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
  actor = nullptr;
  sched.run();
}
