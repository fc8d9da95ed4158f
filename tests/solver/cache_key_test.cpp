#include <catch2/catch.hpp>

#include <map>

#include "solver/cache_key.hpp"
#include "solver/reason.hpp"

using namespace kiln;
using namespace kiln::solver;

namespace {

struct memory_keys : key_lookup {
  std::map<std::pair<std::string, cache_link>, std::set<std::string>> links;
  void add(const std::vector<cache_edge>& entries) {
    for (const auto& e : entries) links[{e.parent, e.link}].insert(e.child);
  }
  std::vector<std::string> children(std::string_view parent, const cache_link& link) const override {
    auto found = links.find({std::string(parent), link});
    if (found == links.end()) return {};
    return {found->second.begin(), found->second.end()};
  }
};

cache_map map_of(const std::string& op, std::vector<cache_dependency> dependencies) {
  cache_map m;
  m.op_digest = sha256(op);
  m.dependencies = std::move(dependencies);
  return m;
}

const cache_dependency plain{};
const cache_dependency by_content{"sel", true, {content_selector{}}};

}  // namespace

TEST_CASE("root keys are the digest of op digest and output") {
  auto op = sha256("image");
  CHECK(root_key(op.str(), 2) == sha256(op.str() + "@2").str());
  CHECK(is_random(root_key("random:00", 0)));
  CHECK(content_key(op) == sha256(op.str() + "@-1").str());
  key_search s(map_of("image", {}), 0);
  s.add_root(sha256("chain"));
  CHECK(s.matches().size() == 2);
  CHECK(s.final_key() == root_key(op.str(), 0));
}

TEST_CASE("a result is found again by the definition of its inputs") {
  memory_keys db;
  key_search first(map_of("run", {plain}), 0);
  first.add_input_keys(0, {"k1"}, db);
  CHECK(first.matches().empty());
  CHECK_FALSE(first.matched(0));
  auto key = first.final_key();
  db.add(first.links_to(key));

  key_search again(map_of("run", {plain}), 0);
  again.add_input_keys(0, {"other", "k1"}, db);
  CHECK(again.matches() == std::vector<std::string>{key});
  key_search output(map_of("run", {plain}), 1);
  output.add_input_keys(0, {"k1"}, db);
  CHECK(output.matches().empty());
  key_search edited(map_of("run2", {plain}), 0);
  edited.add_input_keys(0, {"k1"}, db);
  CHECK(edited.matches().empty());
}

TEST_CASE("content stands for a definition that changed") {
  memory_keys db;
  key_search first(map_of("copy", {plain, by_content}), 0);
  first.add_input_keys(0, {"base"}, db);
  first.add_input_keys(1, {"random:aa"}, db);
  CHECK(first.may_use_content(1));
  CHECK_FALSE(first.may_use_content(0));
  first.set_content(1, sha256("files"), db);
  CHECK_FALSE(first.may_use_content(1));
  auto key = first.final_key();
  CHECK_FALSE(is_random(key));
  auto links = first.links_to(key);
  CHECK(links.size() == 2);  // base by definition, the context by content only
  db.add(links);

  key_search again(map_of("copy", {plain, by_content}), 0);
  again.add_input_keys(0, {"base"}, db);
  again.add_input_keys(1, {"random:bb"}, db);
  CHECK(again.matched(0));
  CHECK_FALSE(again.matched(1));
  CHECK(again.matches().empty());
  again.set_content(1, sha256("files"), db);
  CHECK(again.matches() == std::vector<std::string>{key});

  key_search changed(map_of("copy", {plain, by_content}), 0);
  changed.add_input_keys(0, {"base"}, db);
  changed.set_content(1, sha256("other files"), db);
  CHECK(changed.matches().empty());
}

TEST_CASE("inputs that match different results do not match together") {
  memory_keys db;
  for (const char* pair : {"ab", "cd"}) {
    key_search s(map_of("merge", {plain, plain}), 0);
    s.add_input_keys(0, {std::string(1, pair[0])}, db);
    s.add_input_keys(1, {std::string(1, pair[1])}, db);
    db.add(s.links_to(s.final_key()));
  }
  key_search mixed(map_of("merge", {plain, plain}), 0);
  mixed.add_input_keys(0, {"a"}, db);
  mixed.add_input_keys(1, {"d"}, db);
  CHECK(mixed.matched(0));
  CHECK(mixed.matched(1));
  CHECK(mixed.matches().empty());
}

TEST_CASE("equal work has an equal key and a random input makes it random") {
  memory_keys db;
  auto search = [&](const std::string& key) {
    key_search s(map_of("run", {plain}), 0);
    s.add_input_keys(0, {key}, db);
    return s.final_key();
  };
  CHECK(search("k") == search("k"));
  CHECK(search("k") != search("l"));
  CHECK(is_random(search("random:1")));
  key_search s(map_of("run", {plain}), 0);
  s.add_input_keys(0, {"random:1"}, db);
  CHECK(s.links_to(s.final_key()).empty());
  CHECK(s.links_to("sha256:00").empty());
}

TEST_CASE("a partial match is completed with the keys it was not reached by") {
  memory_keys db;
  key_search first(map_of("run", {plain}), 0);
  first.add_input_keys(0, {"k1"}, db);
  auto key = first.final_key();
  db.add(first.links_to(key));
  key_search second(map_of("run", {plain}), 0);
  second.add_input_keys(0, {"k1", "k2"}, db);
  db.add(second.links_to(second.matches().front()));
  key_search third(map_of("run", {plain}), 0);
  third.add_input_keys(0, {"k2"}, db);
  CHECK(third.matches() == std::vector<std::string>{key});
}

TEST_CASE("reasons name what changed") {
  step_record now{"op", {{"[1/3] FROM x", "k1", false}, {"load build context", "c2", true}}};
  step_record before = now;
  CHECK_FALSE(explain(miss_cause::no_match, now, std::nullopt));
  before.inputs[1].key = "c1";
  CHECK(explain(miss_cause::no_match, now, before) ==
        "rebuilt: the content of \"load build context\" changed");
  before.inputs[0].key = "k0";
  CHECK(explain(miss_cause::no_match, now, before) ==
        "rebuilt: the result of \"[1/3] FROM x\" and the content of \"load build context\" changed");
  before = now;
  before.op_digest = "older";
  CHECK(explain(miss_cause::no_match, now, before) == "rebuilt: the definition of this step changed");
  before.inputs[0].key = "k0";
  CHECK_FALSE(explain(miss_cause::no_match, now, before));  // another step, not an edited one
  CHECK(explain(miss_cause::no_match, now, now) == "rebuilt: the cached result was removed");
  CHECK(explain(miss_cause::evicted, now, std::nullopt) == "rebuilt: the cached result was removed");
  CHECK(explain(miss_cause::ignored, now, now) == "not cached: the build asked for no cache here");
}

TEST_CASE("step records survive being stored") {
  step_record r{"op", {{"a \"b\" \xff", "k", true}, {"", "", false}}};
  auto back = decode_step_record(encode(r));
  REQUIRE(back.ok());
  CHECK(back->op_digest == "op");
  CHECK(back->inputs[0].by_content);
  CHECK(back->inputs[1] == r.inputs[1]);
  CHECK_FALSE(decode_step_record("nonsense").ok());
  CHECK_FALSE(decode_step_record("{\"op\":1}").ok());
  CHECK(step_position("[build 2/5] RUN make", "linux/amd64") ==
        step_position("[build 2/5] RUN ls", "linux/amd64"));
  CHECK(step_position("mkdir /a", "x") != step_position("mkdir /b", "x"));
}
