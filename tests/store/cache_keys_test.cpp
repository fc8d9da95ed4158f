#include "store/database/cache_keys_db.hpp"
#include "store/database/metadata_db.hpp"
#include "store_fixture.hpp"

#include <set>

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;

namespace {

std::set<std::string> roots(const cache_keys& keys) {
  std::set<std::string> all;
  keys.for_each_key([&](std::string_view id) { all.emplace(id); });
  return all;
}

}  // namespace

TEST_CASE("Links lead from key to key by exactly the same op, selector and input, across restarts") {
  temporary_root root;
  cache_link link{1, 0, "sha256:op", "sha256:selector"};
  {
    auto db = must(metadata_db::open(root.path() / "keys"));
    must(make_cache_keys(*db)->add(
        {{{"root", link, "child"}, {"other", {0, 0, "sha256:op", ""}, "child"}},
         {{"root", {"r1", 5}}, {"child", {"r2", 6}}, {"child", {"r3", 9}}, {"child", {"r1", 7}}}}));
  }
  auto db = must(metadata_db::open(root.path() / "keys"));
  auto all = make_cache_keys(*db);
  auto& keys = *all;
  CHECK(keys.has("root"));
  CHECK(keys.has("child"));
  CHECK(!keys.has("nothing"));
  CHECK(keys.children("root", link) == std::vector<std::string>{"child"});
  for (auto wrong :
       {cache_link{0, 0, "sha256:op", "sha256:selector"}, cache_link{1, 1, "sha256:op", "sha256:selector"},
        cache_link{1, 0, "sha256:op2", "sha256:selector"}, cache_link{1, 0, "sha256:op", ""}})
    CHECK(keys.children("root", wrong).empty());
  auto results = keys.results("child");
  REQUIRE(results.size() == 3);
  CHECK(results[0].id == "r3");
  CHECK(results[1].id == "r1");
  CHECK(results[2].id == "r2");
  CHECK(keys.keys_of_result("r1") == std::vector<std::string>{"child", "root"});
  std::set<std::string> parents;
  keys.for_each_backlink("child", [&](const cache_link&, std::string_view p) { parents.emplace(p); });
  CHECK(parents == std::set<std::string>{"root", "other"});
  keys.for_each_link("root", [&](const cache_link& l, std::string_view c) {
    CHECK(l == link);
    CHECK(c == "child");
  });
  CHECK(roots(keys) == std::set<std::string>{"root", "other"});
}

TEST_CASE("Releasing a result drops keys that lead to nothing, and only those") {
  temporary_root root;
  auto store = open_store(root);
  auto& keys = store->keys();
  cache_link link{0, 0, "sha256:op", ""};
  must(keys.add({{{"a", link, "b"}, {"b", link, "c"}, {"b", {1, 0, "sha256:x", ""}, "d"}},
                 {{"c", {"rc", 1}}, {"d", {"rd", 1}}}}));
  must(keys.release("rc"));
  CHECK(!keys.has("c"));
  CHECK(keys.has("b"));
  CHECK(keys.has("a"));
  must(keys.release("rd"));
  CHECK(!keys.has("b"));
  CHECK(!keys.has("a"));
  CHECK(roots(keys).empty());
  must(keys.release("never heard of"));
}

TEST_CASE("Ids of any length work, and a key that is a prefix of another is not mistaken for it") {
  temporary_root root;
  auto store = open_store(root);
  auto& keys = store->keys();
  std::string longest(1000, 'k'), other = longest + "x", result(5000, 'r');
  cache_link link{0, 0, std::string(300, 'd'), std::string(300, 's')};
  must(keys.add({{{longest, link, other}}, {{other, {result, 1}}, {"ab", {"r", 1}}}}));
  CHECK(keys.children(longest, link) == std::vector<std::string>{other});
  CHECK(keys.results(other)[0].id == result);
  CHECK(keys.keys_of_result(result) == std::vector<std::string>{other});
  CHECK(!keys.has("a"));
  CHECK(keys.results("a").empty());
  must(keys.release(result));
  CHECK(!keys.has(longest));
}

TEST_CASE("Pruning a record releases its cache keys") {
  temporary_root root;
  auto store = open_store(root);
  std::string id = layer_of(*store, {}, {{"f", "x"}}).id();
  must(store->keys().add({{}, {{"key", {id, 0}}}}));
  CHECK(store->keys().has("key"));
  must(store->space().prune({.all = true}, nullptr));
  CHECK(!store->keys().has("key"));
}
