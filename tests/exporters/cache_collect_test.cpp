// Which results of a finished build a cache export takes, by mode and by what the definition says.
#include <catch2/catch.hpp>

#include "tests/exporters/cache_fixture.hpp"

using namespace kiln;
using namespace kiln::exporters;
using namespace kiln::exporters::testing;
namespace rc = kiln::solver::remote_cache;

namespace {

/// The names of the steps with results.
std::set<std::string> exported(const rc::cache_config& config) {
  std::set<std::string> out;
  for (const auto& r : config.records)
    for (const char* name : {"image", "run", "tool", "copy"})
      if (r.digest == solver::root_key(op(name), 0) && !r.results.empty()) out.insert(name);
  return out;
}

}  // namespace

TEST_CASE("max exports the layers of every step but sources, and all keys that lead there") {
  finished_build b;
  auto collected = must(collect_cache(b.scope, {cache_mode::max, false, {}}, b.resources, {}));
  auto m = collected.content(*b.refs).records;
  CHECK(exported(m.config) == std::set<std::string>{"run", "tool", "copy"});
  CHECK(m.config.records.size() == 5);  // image, content, run, tool, copy
  CHECK(m.layers.size() == 4);          // image, run, tool, copy
  for (const auto& [d, layer] : m.layers) {
    CHECK(layer.media_type == "application/vnd.oci.image.layer.v1.tar+gzip");
    CHECK(layer.annotations.at(rc::annotation_diff_id).starts_with("sha256:"));
    CHECK(parse_rfc3339(layer.annotations.at(rc::annotation_created_at)).has_value());
    CHECK(b.refs->blobs().info(d)->size == layer.size);
  }
}

TEST_CASE("min exports the result's layers and those of steps that it is built on") {
  finished_build b;
  auto collected = must(collect_cache(b.scope, {}, b.resources, {}));
  auto m = collected.content(*b.refs).records;
  // tool's layer has no compressed form yet, and none is made for it.
  CHECK(exported(m.config) == std::set<std::string>{"run", "copy"});
  CHECK(m.layers.size() == 3);
  // Once it has one, for whatever reason, it goes out too.
  must(layer_exporter(*b.refs, nullptr, {}).run(std::vector<store::ref>{b.tool}, {}));
  m = must(collect_cache(b.scope, {}, b.resources, {})).content(*b.refs).records;
  CHECK(exported(m.config) == std::set<std::string>{"run", "tool", "copy"});
}

TEST_CASE("min goes down to the topmost steps that may be exported") {
  finished_build b;
  b.scope.steps[3].export_cache = false;
  auto m = must(collect_cache(b.scope, {}, b.resources, {})).content(*b.refs).records;
  CHECK(exported(m.config) == std::set<std::string>{"run", "tool"});
}

TEST_CASE("a step whose export is forbidden keeps its keys and gives no layers") {
  finished_build b;
  b.scope.steps[1].export_cache = false;
  auto m =
      must(collect_cache(b.scope, {cache_mode::max, false, {}}, b.resources, {})).content(*b.refs).records;
  CHECK(exported(m.config) == std::set<std::string>{"tool", "copy"});
  CHECK(m.config.records.size() == 5);
}

TEST_CASE("steps that were never loaded are found by their keys, newest first") {
  finished_build b;
  for (auto& s : b.scope.steps) s.ref.clear();
  auto newer = layer_of(*b.refs, b.image, {{"ran", "again"}});
  b.save(b.run_key, newer, 9'000'000'000);
  auto m =
      must(collect_cache(b.scope, {cache_mode::max, false, {}}, b.resources, {})).content(*b.refs).records;
  CHECK(exported(m.config) == std::set<std::string>{"run", "tool", "copy"});
  for (const auto& r : m.config.records)
    if (r.digest == solver::root_key(op("run"), 0)) CHECK(r.results[0].created_at_ns == 9'000'000'000);
}

TEST_CASE("what another node made goes out as what this one made, with the time it was made at") {
  finished_build b;
  auto elsewhere = layer_of(*b.refs, b.image, {{"ran", "elsewhere"}});
  std::vector<std::string> fetched;
  b.resources.fetch = [&](const std::string& located, const job_context&) -> result<store::ref> {
    fetched.push_back(located);
    if (located != "n2!made") return make_error(errc::data_loss, "node n3 is gone");
    return elsewhere;
  };
  must(b.refs->keys().add(
      {{}, {{b.run_key, {"n3!gone", 9'500'000'000}}, {b.run_key, {"n2!made", 9'000'000'000}}}}));
  // As a step of this build, and as one that nobody asked for the result of.
  for (const std::string ref : {"n2!made", ""}) {
    fetched.clear();
    b.scope.steps[1].ref = ref;
    auto m =
        must(collect_cache(b.scope, {cache_mode::max, false, {}}, b.resources, {})).content(*b.refs).records;
    CHECK(exported(m.config) == std::set<std::string>{"run", "tool", "copy"});
    for (const auto& r : m.config.records)
      if (r.digest == solver::root_key(op("run"), 0)) CHECK(r.results[0].created_at_ns == 9'000'000'000);
    CHECK(fetched.back() == "n2!made");
  }
}

TEST_CASE("another build's way to the same key is exported as a key, not with its layers") {
  finished_build b;
  auto other = layer_of(*b.refs, b.image, {{"huge", "other stage"}});
  auto key = b.add("other", {{b.image_key, {0, 0, op("other"), ""}}});
  b.save(key, other, 5'000'000'000);
  cache_records batch;
  batch.links.push_back({key, {1, 0, op("copy"), "path"}, b.copy_key});
  must(b.refs->keys().add(batch));
  auto m =
      must(collect_cache(b.scope, {cache_mode::max, false, {}}, b.resources, {})).content(*b.refs).records;
  CHECK(m.config.records.size() == 6);
  CHECK(m.layers.size() == 4);
}

TEST_CASE("compression applies to what is exported") {
  finished_build b;
  must(layer_exporter(*b.refs, nullptr, {}).run(std::vector<store::ref>{b.copy}, {}));
  cache_options zstd{cache_mode::max, false, {store::compression::zstd, {}, true}};
  auto m = must(collect_cache(b.scope, zstd, b.resources, {})).content(*b.refs).records;
  CHECK(m.layers.size() == 4);
  for (const auto& [d, layer] : m.layers)
    CHECK(layer.media_type == "application/vnd.oci.image.layer.v1.tar+zstd");
}

TEST_CASE("a result without layers gives nothing to export") {
  finished_build b;
  b.scope.results = {0};
  attributes attrs{{"ref", "localhost:1/unreachable"}};
  auto exporter = must(make_cache_exporter("registry", attrs, b.resources));
  kiln::test::recording_progress progress;
  job_context job;
  job.progress = &progress;
  auto response = must(export_cache(*exporter, b.scope, b.resources, job));
  CHECK(response.empty());
  CHECK(progress.begun == std::vector<std::string>{"preparing build cache for export",
                                                   "skipping cache export for empty result"});
  CHECK(progress.ended == progress.begun);
}

TEST_CASE("an inline cache is a quoted base64 text over the image's layers") {
  finished_build b;
  auto layers = must(layer_exporter(*b.refs, nullptr, {}).run(std::vector<store::ref>{b.copy}, {}));
  std::vector<store::layer_blob> image;
  for (const auto& l : layers[0]) image.push_back(l.blob);
  auto value = must(inline_cache_of(b.scope, 0, image, b.resources, {}));
  REQUIRE(value.size() > 2);
  CHECK(value.front() == '"');
  CHECK(value.back() == '"');
  // Layers that are not the result's: nothing.
  CHECK(must(inline_cache_of(b.scope, 0, {}, b.resources, {})).empty());
}
