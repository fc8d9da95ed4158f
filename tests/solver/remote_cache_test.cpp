// The remote cache's config and key graph, both ways: exported records as BuildKit writes them, imported
// ones as a lookup, and what hostile configs are answered.
#include <catch2/catch.hpp>

#include "base/time_text.hpp"
#include "solver/cache_key.hpp"
#include "solver/remote_cache/chains.hpp"
#include "solver/remote_cache/config.hpp"
#include "solver/remote_cache/imported_graph.hpp"

using namespace kiln;
using namespace kiln::solver;
using namespace kiln::solver::remote_cache;

namespace {

const std::string t0 = "2024-05-01T10:00:00Z", t1 = "2024-05-01T10:00:01.5Z";

std::int64_t at(const std::string& text) { return *parse_rfc3339(text); }

descriptor blob(const std::string& name) {
  descriptor d;
  d.media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
  d.digest = sha256(name);
  d.size = static_cast<std::int64_t>(name.size());
  d.annotations[annotation_diff_id] = sha256("tar of " + name).str();
  return d;
}

layer_chain chain(const std::string& created, std::initializer_list<std::string> names) {
  layer_chain c;
  c.created_at_ns = at(created);
  for (const auto& n : names) c.layers.push_back(blob(n));
  return c;
}

std::string op(const std::string& name) { return sha256(name).str(); }

std::map<digest, descriptor> blobs(std::initializer_list<std::string> names) {
  std::map<digest, descriptor> out;
  for (const auto& n : names) out[blob(n).digest] = blob(n);
  return out;
}

std::string message(const std::string& json) {
  auto c = parse_config(json);
  return c.ok() ? "" : c.error().message;
}

const std::string da = sha256("a").str(), db = sha256("b").str();

}  // namespace

TEST_CASE("a config is written as Go's encoder writes it") {
  cache_config c;
  c.layers = {{digest::trusted(da), -1, {}}, {digest::trusted(db), 0, {}}};
  c.records = {{{{1, at(t0)}}, {}, "sha256:r", {{{"", 1}}, {{"sel<0>", 0}}}},
               {{}, {{{0, 1}, at(t1)}}, "sha256:s", {}}};
  CHECK(to_json(c) ==
        "{\"layers\":[{\"blob\":\"" + da + "\",\"parent\":-1},{\"blob\":\"" + db +
            "\"}],\"records\":[{\"layers\":[{\"layer\":1,\"createdAt\":\"2024-05-01T10:00:00Z\"}],"
            "\"digest\":\"sha256:r\",\"inputs\":[[{\"link\":1}],[{\"selector\":\"sel\\u003c0\\u003e\","
            "\"link\":0}]]},"
            "{\"chains\":[{\"layers\":[0,1],\"createdAt\":\"2024-05-01T10:00:01.5Z\"}],\"digest\":\"sha256:"
            "s\"}]}");
  CHECK(to_json({}) == "{}");
}

TEST_CASE("a config survives the way to JSON and back") {
  cache_config c;
  c.layers = {{digest::trusted(da), -1, layer_annotations{"type", digest::trusted(db), 7, at(t0)}},
              {digest::trusted(db), 0, layer_annotations{}}};
  c.records = {{{}, {}, op("x"), {}}, {{{1, at(t1)}, {0, no_time}}, {}, op("y"), {{{"s", 0}, {"", 0}}}}};
  auto back = parse_config(to_json(c));
  REQUIRE(back.ok());
  CHECK(*back == c);
  CHECK(to_json(*back) == to_json(c));
}

TEST_CASE("unsound configs are refused with what is wrong") {
  auto layer = [](const std::string& d, const std::string& parent) {
    return "{\"blob\":\"" + d + "\",\"parent\":" + parent + "}";
  };
  CHECK(message("{") == "invalid cache config: not JSON: wrong at line 1, column 2");
  CHECK(message(std::string(100'000, '[')) == "invalid cache config: JSON nested deeper than 512 levels");
  CHECK(message("[]") == "invalid cache config: not an object where \"layers\" is expected");
  CHECK(message("{\"layers\":{}}") == "invalid cache config: \"layers\" is no array");
  CHECK(message("{\"layers\":[{\"blob\":\"md5:x\"}]}") == "invalid cache config: \"md5:x\" is no digest");
  CHECK(message("{\"layers\":[" + layer(da, "0") + "]}") == "invalid cache config: invalid looping layer");
  CHECK(message("{\"layers\":[" + layer(da, "1") + "," + layer(db, "0") + "]}") ==
        "invalid cache config: invalid looping layer");
  CHECK(message("{\"layers\":[" + layer(da, "7") + "]}") == "invalid cache config: invalid layer index 7");
  CHECK(message("{\"layers\":[" + layer(da, "-2") + "]}") == "invalid cache config: invalid layer index -2");
  CHECK(message("{\"layers\":[" + layer(da, "99999999999999999999") + "]}") ==
        "invalid cache config: \"parent\" is no integer");
  CHECK(message("{\"records\":[{\"digest\":\"sha256:a\",\"layers\":[{\"layer\":0}]}]}") ==
        "invalid cache config: invalid layer index 0");
  CHECK(message("{\"records\":[{\"digest\":\"sha256:a\",\"chains\":[{\"layers\":[4294967296]}]}]}") ==
        "invalid cache config: invalid layer index -2");
  CHECK(message("{\"records\":[{\"digest\":\"sha256:a\",\"inputs\":[[]]}]}") ==
        "invalid cache config: invalid empty input for record 0");
  CHECK(message("{\"records\":[{\"digest\":\"sha256:a\",\"inputs\":[null]}]}") ==
        "invalid cache config: invalid empty input for record 0");
  CHECK(message("{\"records\":[{\"digest\":\"sha256:a\",\"inputs\":[[{\"link\":0}]]}]}") ==
        "invalid cache config: invalid looping record");
  CHECK(message("{\"records\":[{\"digest\":\"sha256:a\",\"inputs\":[[{\"link\":9}]]}]}") ==
        "invalid cache config: invalid record ID: 9");
  CHECK(message("{\"records\":[{\"digest\":\"random:a\"}]}") ==
        "invalid cache config: invalid record digest \"random:a\"");
  CHECK(message("{\"records\":[{\"digest\":5}]}") == "invalid cache config: \"digest\" is no string");
  CHECK(message("{\"records\":[5]}") == "invalid cache config: not an object where \"digest\" is expected");
  CHECK(message("{\"records\":[{\"digest\":\"" + std::string(5'000, 'x') + "\"}]}").find("more than") !=
        std::string::npos);
  CHECK(message("{\"records\":null,\"layers\":null,\"more\":1}").empty());
}

TEST_CASE("a config as deep as its size allows is checked without deep recursion") {
  std::string text = "{\"records\":[{\"digest\":\"r\"}";
  for (int i = 0; i < 100'000; ++i)
    text += ",{\"digest\":\"r\",\"inputs\":[[{\"link\":" + std::to_string(i) + "}]]}";
  text += "],\"layers\":[";
  for (int i = 0; i < 100'000; ++i)
    text += (i == 0 ? "" : ",") + ("{\"blob\":\"" + da + "\",\"parent\":" + std::to_string(i - 1) + "}");
  auto c = parse_config(text + "]}");
  REQUIRE(c.ok());
  imported_graph g;
  CHECK(g.add(*c, blobs({"a"})).ok());
  // A result of so many layers is refused.
  c->records[0].results.push_back({99'999, 0});
  auto refused = check_config(*c);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code == errc::resource_exhausted);
}

TEST_CASE("the order of records, layers and links does not depend on how they were met") {
  chains forth, back;
  auto fill = [](chains& c, bool reversed) {
    auto foo = reversed ? 0 : *c.add(root_key(op("foo"), 0), {});
    auto bar = *c.add(root_key(op("bar"), 1), {});
    if (reversed) foo = *c.add(root_key(op("foo"), 0), {});
    auto baz = c.add(root_key(op("baz"), 0), {{{foo, ""}}, {{bar, "sel0"}}});
    c.add_result(*baz, chain(t0, {"d0", "d1"}));
    auto other =
        c.add(root_key(op("other"), 0), {reversed ? std::vector<chains::source>{{bar, ""}, {foo, "s"}}
                                                  : std::vector<chains::source>{{foo, "s"}, {bar, ""}}});
    c.add_result(*other, chain(t1, {"d0", "d2"}));
  };
  fill(forth, false);
  fill(back, true);
  auto m = forth.marshal();
  CHECK(to_json(m.config) == to_json(back.marshal().config));
  // Adding the same again changes nothing.
  fill(forth, false);
  CHECK(to_json(forth.marshal().config) == to_json(m.config));
  CHECK(m.config.layers.size() == 3);
  CHECK(m.config.records.size() == 4);
  CHECK(m.layers.size() == 3);
  CHECK(std::is_sorted(m.config.layers.begin(), m.config.layers.end(),
                       [](const auto& a, const auto& b) { return a.blob < b.blob; }));
  CHECK(std::is_sorted(m.config.records.begin(), m.config.records.end(),
                       [](const auto& a, const auto& b) { return a.digest < b.digest; }));
  // What was read back and canonicalized again is the same.
  auto parsed = parse_config(to_json(m.config));
  REQUIRE(parsed.ok());
  canonicalize(*parsed);
  CHECK(to_json(*parsed) == to_json(m.config));
}

TEST_CASE("the same layer on different layers is two layers of the config and one blob") {
  chains c;
  c.add_result(*c.add(op("x"), {}), chain(t0, {"base", "top"}));
  c.add_result(*c.add(op("y"), {}), chain(t0, {"other", "top"}));
  auto m = c.marshal();
  CHECK(m.config.layers.size() == 4);
  CHECK(m.layers.size() == 3);
}

TEST_CASE("Docker layer types are OCI ones in a cache") {
  chains c;
  auto result = chain(t0, {"a"});
  result.layers[0].media_type = "application/vnd.docker.image.rootfs.diff.tar.gzip";
  c.add_result(*c.add(op("x"), {}), result);
  CHECK(c.marshal().layers.at(blob("a").digest).media_type == "application/vnd.oci.image.layer.v1.tar+gzip");
}

TEST_CASE("a record met by two keys is one record, and keeps its newest result") {
  // "one" was found under the local key, "two" under an imported key of the same op on the same input.
  std::vector<exported_key> keys{
      {"two", {{"root", 0, "", "rec"}, {"content", 0, "", "rec"}}, chain(t1, {"b"})},
      {"root", {}, {}},
      {"one", {{"root", 0, "", "rec"}}, chain(t0, {"a"})},
      {"child", {{"one", 0, "", "rec2"}, {"two", 0, "", "rec2"}}, chain(t1, {"a", "c"})},
      {"content", {}, {}},
  };
  auto m = chains::of(keys).marshal();
  REQUIRE(m.config.records.size() == 4);
  CHECK(m.config.layers.size() == 3);
  const auto& rec = *std::find_if(m.config.records.begin(), m.config.records.end(),
                                  [](const auto& r) { return r.digest == "rec"; });
  REQUIRE(rec.inputs.size() == 1);
  CHECK(rec.inputs[0].size() == 2);
  REQUIRE(rec.results.size() == 1);
  CHECK(rec.results[0].created_at_ns == at(t1));
}

TEST_CASE("keys that an input has no exportable way to are left out, with all that hangs on them") {
  std::vector<exported_key> keys{
      {"root", {}, {}},
      {"random:1", {}, {}},
      {"half", {{"root", 0, "", "rec"}, {"random:1", 1, "", "rec"}}, chain(t0, {"a"})},
      {"below", {{"half", 0, "", "rec2"}}, chain(t0, {"a", "b"})},
      {"gap", {{"root", 1, "", "rec3"}}, chain(t0, {"c"})},
      {"lost", {{"nobody", 0, "", "rec4"}}, chain(t0, {"d"})},
  };
  auto m = chains::of(keys).marshal();
  REQUIRE(m.config.records.size() == 1);
  CHECK(m.config.records[0].digest == "root");
  CHECK(m.config.layers.empty());
}

TEST_CASE("keys that lead to each other are exported without the loop") {
  std::vector<exported_key> keys{
      {"root", {}, {}},
      {"x", {{"root", 0, "", "rx"}, {"y", 0, "", "rx"}}, chain(t0, {"a"})},
      {"y", {{"x", 0, "", "ry"}}, chain(t0, {"b"})},
  };
  auto m = chains::of(keys).marshal();
  CHECK(m.config.records.size() == 3);
  CHECK(check_config(m.config).ok());
  CHECK(m.config.layers.size() == 2);
}

TEST_CASE("an imported cache answers lookups as the exporting daemon's own database would") {
  // source → run, and content → copy with the run's result as second input.
  auto source_key = root_key(op("image"), 0), content = content_key(sha256("files"));
  chains c;
  auto root = *c.add(source_key, {}), files = *c.add(content, {});
  auto run = *c.add(root_key(op("run"), 0), {{{root, "sel"}}});
  auto copy = *c.add(root_key(op("copy"), 1), {{{run, ""}}, {{files, ""}}});
  c.add_result(run, chain(t0, {"r"}));
  c.add_result(copy, chain(t1, {"r", "c"}));
  auto m = c.marshal();
  imported_graph g;
  auto parsed = parse_config(to_json(m.config));
  REQUIRE(parsed.ok());
  REQUIRE(g.add(*parsed, m.layers).ok());

  CHECK(g.has(source_key));
  CHECK(g.children(source_key, {0, 0, op("run"), ""}).empty());
  CHECK(g.children(source_key, {0, 1, op("run"), "sel"}).empty());
  auto ran = g.children(source_key, {0, 0, op("run"), "sel"});
  REQUIRE(ran.size() == 1);
  REQUIRE(g.results(ran[0]).size() == 1);
  CHECK(g.layers(g.results(ran[0])[0].id) == std::vector<descriptor>{blob("r")});

  // As a vertex does it: with key_search over both inputs, the second by content.
  cache_map map;
  map.op_digest = sha256("copy");
  map.dependencies = {{}, {"other selector", true, {}}};
  key_search search(map, 1);
  search.add_input_keys(0, ran, g);
  search.set_content(1, sha256("files"), g);
  auto found = search.matches();
  REQUIRE(found.size() == 1);
  auto results = g.results(found[0]);
  REQUIRE(results.size() == 1);
  CHECK(results[0].created_at_ns == at(t1));
  CHECK(g.layers(results[0].id) == std::vector<descriptor>{blob("r"), blob("c")});
  CHECK(g.layers("unknown").empty());

  // What was imported can be exported again, byte for byte.
  std::vector<exported_key> again;
  for (const auto& key : {source_key, content, ran[0], found[0]}) {
    exported_key e{key, g.origins(key), {}};
    if (auto r = g.results(key); !r.empty()) e.result = layer_chain{r[0].created_at_ns, g.layers(r[0].id)};
    again.push_back(e);
  }
  CHECK(to_json(chains::of(again).marshal().config) == to_json(m.config));
}

TEST_CASE("a result whose blob is missing is left out and the others stay") {
  chains c;
  c.add_result(*c.add(op("x"), {}), chain(t0, {"base", "top"}));
  c.add_result(*c.add(op("y"), {}), chain(t0, {"base"}));
  imported_graph g;
  REQUIRE(g.add(c.marshal().config, blobs({"base"})).ok());
  CHECK(g.has(op("x")));
  CHECK(g.results(op("x")).empty());
  CHECK(g.results(op("y")).size() == 1);
}

TEST_CASE("imported results are ordered newest first, whichever config they came from") {
  imported_graph g;
  for (const auto& [time, name] : {std::pair{t0, "old"}, std::pair{t1, "new"}}) {
    chains c;
    c.add_result(*c.add(op("x"), {}), chain(time, {name}));
    REQUIRE(g.add(c.marshal().config, blobs({name})).ok());
  }
  auto results = g.results(op("x"));
  REQUIRE(results.size() == 2);
  CHECK(g.layers(results[0].id)[0].digest == blob("new").digest);
}

TEST_CASE("an inline cache names the image's layers by their place") {
  chains c;
  auto root = *c.add(op("base"), {});
  auto first = *c.add(op("first"), {{{root, ""}}}), second = *c.add(op("second"), {{{first, ""}}});
  auto stage = *c.add(op("stage"), {{{root, ""}}});
  c.add_result(first, chain(t0, {"b", "f"}));
  c.add_result(second, chain(t1, {"b", "f", "s"}));
  c.add_result(stage, chain(t0, {"b", "s"}));  // layers of the image, in another order
  c.add_result(*c.add(op("elsewhere"), {{{root, ""}}}), chain(t0, {"b", "z"}));
  // The image has "f" in another compression: its blob differs, its content does not.
  std::vector<chains::image_layer> image{{blob("b").digest, sha256("tar of b")},
                                         {sha256("zstd of f"), sha256("tar of f")},
                                         {blob("s").digest, sha256("tar of s")}};
  auto text = c.inline_records(image);
  std::vector<digest> image_blobs;
  for (const auto& l : image) image_blobs.push_back(l.blob);
  auto parsed = parse_inline_records(text, image_blobs);
  REQUIRE(parsed.ok());
  auto record = [&](const std::string& name) {
    for (const auto& r : parsed->records)
      if (r.digest == op(name)) return r;
    return cache_record{};
  };
  REQUIRE(record("first").results.size() == 1);
  CHECK(record("first").results[0].layer == 1);
  REQUIRE(record("second").results.size() == 1);
  CHECK(record("second").results[0].layer == 2);
  CHECK(record("stage").results.empty());
  REQUIRE(record("stage").chains.size() == 1);
  CHECK(record("stage").chains[0].layers == std::vector<int>{0, 2});
  CHECK(record("elsewhere").digest == op("elsewhere"));
  CHECK(record("elsewhere").results.empty());

  imported_graph g;
  std::map<digest, descriptor> layers = blobs({"b", "s"});
  layers[image[1].blob] = descriptor{"type", image[1].blob, 1, {}, {}, {}, {}};
  REQUIRE(g.add(*parsed, layers).ok());
  auto found = g.children(op("base"), {0, 0, "", ""});
  CHECK(found.empty());  // records are named by op and output, not by op
  CHECK(g.all_layers().size() == 3);
  // Nothing of the image: no inline cache.
  CHECK(c.inline_records(std::vector<chains::image_layer>{{sha256("q"), sha256("p")}}).empty());
}
