#include "store_fixture.hpp"

#include "store/database/values.hpp"

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;

TEST_CASE("What may be forgotten never grows past its bound, and what speaks of records that are gone goes") {
  temporary_root root;
  auto store = open_store(root);
  auto kept = must(store->commit(must(store->create({}, {}, {}))));
  constexpr std::size_t count_max = 20;
  auto is_there = [&](std::string_view id) { return store->has(id); };
  remembered_values places(store->values(), "places", count_max, is_there);
  std::size_t most = 0;
  for (std::size_t i = 0; i < 10 * count_max; ++i) {
    must(places.set("key " + std::to_string(i), kept.id()));
    most = std::max(most, store->values().all("places").size());
  }
  CHECK(most <= count_max + count_max / 2);
  CHECK(most >= count_max);
  CHECK(places.get("key " + std::to_string(10 * count_max - 1)) == kept.id());

  // Of a daemon's earlier life: most lead nowhere.
  for (int i = 0; i < 100; ++i)
    must(store->values().set("of old", std::to_string(i), "a record that is gone"));
  must(store->values().set("of old", "good", kept.id()));
  remembered_values after_start(store->values(), "of old", count_max, is_there);
  must(after_start.set("new", kept.id()));
  using values = std::vector<std::pair<std::string, std::string>>;
  CHECK(store->values().all("of old") == values{{"good", kept.id()}, {"new", kept.id()}});

  auto id = kept.id();
  kept = {};
  must(store->space().prune({.all = true}, nullptr));
  CHECK_FALSE(store->has(id));
  remembered_values later(store->values(), "of old", count_max, is_there);
  must(later.set("newer", "anything"));
  CHECK(store->values().all("of old") == values{{"newer", "anything"}});
}

TEST_CASE("A value that was set again while others are forgotten stays") {
  temporary_root root;
  auto store = open_store(root);
  must(store->values().set("bucket", "a", "1"));
  must(store->values().set("bucket", "b", "1"));
  auto seen = store->values().all("bucket");
  must(store->values().set("bucket", "b", "2"));
  must(store->values().erase_unchanged("bucket", seen));
  CHECK(store->values().all("bucket") == std::vector<std::pair<std::string, std::string>>{{"b", "2"}});
}
