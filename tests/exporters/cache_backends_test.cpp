// Caches exported by one daemon and imported by another, through a real registry and a client's directory.
#include <catch2/catch.hpp>

#include <atomic>
#include <thread>

#include "base/json_text.hpp"
#include "distribution/image_json.hpp"
#include "distribution/media_types.hpp"
#include "distribution/push.hpp"
#include "distribution/transport.hpp"
#include "tests/exporters/cache_fixture.hpp"
#include "tests/support/registry_process.hpp"

using namespace kiln;
using namespace kiln::exporters;
using namespace kiln::exporters::testing;
using kiln::test::registry_process;
namespace rc = kiln::solver::remote_cache;

namespace {

const std::map<std::string, std::string> copied{
    {"etc", "/"}, {"etc/base", "base"}, {"ran", "yes"}, {"tool", "made"}};

std::map<std::string, std::string> run_export(finished_build& b, const std::string& type,
                                              const attributes& attrs, const job_context& job) {
  auto exporter = must(make_cache_exporter(type, attrs, b.resources));
  return must(export_cache(*exporter, b.scope, b.resources, job));
}

std::shared_ptr<imported_cache> run_import(test_daemon& d, const std::string& type, const attributes& attrs,
                                           const job_context& job) {
  return must(must(make_cache_importer(type, attrs, d.resources))->load(job));
}

/// The files of copy's result, found and loaded through the cache alone.
std::map<std::string, std::string> copy_files(test_daemon& d, const imported_cache& cache,
                                              const job_context& job) {
  auto keys = find_copy(cache);
  REQUIRE(keys.size() == 1);
  auto results = cache.results(keys[0]);
  REQUIRE(results.size() == 1);
  CHECK(results[0].created_at_ns == 4'000'000'000);
  auto ref = must(cache.load(results[0].id, *d.refs, job));
  must(d.refs->files().materialize(ref, job));
  return listing(*d.refs, ref);
}

}  // namespace

TEST_CASE("a cache pushed to a registry is found, loaded lazily and pulled by another daemon") {
  registry_process server;
  finished_build a;
  attributes attrs{{"ref", server.host() + "/cache/app:main"}, {"mode", "max"}};
  auto expected_type = std::string(distribution::media::oci_manifest);
  SECTION("as an image manifest") {}
  SECTION("as an OCI index") {
    attrs["image-manifest"] = "false";
    expected_type = distribution::media::oci_index;
  }
  SECTION("as a Docker manifest list") {
    attrs["oci-mediatypes"] = "false";
    expected_type = distribution::media::docker_list;
  }
  SECTION("with zstd") {
    attrs["compression"] = "zstd";
    attrs["force-compression"] = "true";
  }
  kiln::test::recording_progress progress;
  job_context job;
  job.progress = &progress;
  auto before = a.refs->blobs().list().size();
  auto response = run_export(a, "registry", attrs, job);
  auto manifest = nlohmann::json::parse(response.at("cache.manifest"));
  CHECK(manifest["mediaType"] == expected_type);
  auto said = [&](const std::string& prefix) {
    return std::count_if(progress.ended.begin(), progress.ended.end(),
                         [&](const auto& id) { return id.starts_with(prefix); });
  };
  CHECK(said("preparing build cache for export") == 1);
  CHECK(said("writing layer sha256:") == 4);
  CHECK(said("writing config sha256:") == 1);
  CHECK(said("writing cache ") == 1);
  CHECK(said("sending cache export") == 1);
  // Layers are kept with their records; config and manifest are not.
  CHECK(a.refs->blobs().list().size() == before + 4);

  test_daemon b;
  auto cache = run_import(b, "registry", {{"ref", server.host() + "/cache/app:main"}}, job);
  CHECK(cache->id() == server.host() + "/cache/app:main");
  CHECK(b.refs->blobs().list().empty());
  auto results = cache->results(find_copy(*cache).at(0));
  auto lazy = must(cache->load(results[0].id, *b.refs, job));
  CHECK(must(b.refs->layers().of(lazy, job)).size() == 3);
  CHECK(b.refs->blobs().list().empty());
  CHECK(copy_files(b, *cache, job) == copied);

  // Exporting the same again is no change; what the registry has is not sent again.
  auto again = run_export(a, "registry", attrs, job);
  CHECK(again == response);
}

TEST_CASE("a cache that was imported is exported again byte for byte") {
  registry_process server;
  finished_build a;
  attributes attrs{{"ref", server.host() + "/cache:one"}, {"mode", "max"}};
  auto first = run_export(a, "registry", attrs, {});

  // The second daemon hits everything through the import: its own database knows nothing of those keys.
  test_daemon b;
  auto cache = run_import(b, "registry", attrs, {});
  auto run_keys = cache->children(a.image_key, {0, 0, op("run"), "sel"});
  auto tool_keys = cache->children(a.image_key, {0, 0, op("tool"), ""});
  cache_scope scope;
  scope.steps = {{{a.image_key}, "", {}, {}},
                 {run_keys, "", {0}, {}},
                 {tool_keys, "", {0}, {}},
                 {find_copy(*cache), "", {1, 2}, {}}};
  scope.results = {3};
  scope.imports = {cache};
  attrs["ref"] = server.host() + "/other:two";
  auto exporter = must(make_cache_exporter("registry", attrs, b.resources));
  auto second = must(export_cache(*exporter, scope, b.resources, {}));
  auto config_of = [&](const std::map<std::string, std::string>& response, const std::string& ref) {
    auto d = must(distribution::parse_descriptor(nlohmann::json::parse(response.at("cache.manifest"))));
    auto repository = must(distribution::repository::open(b.hosts, must(parse_image_reference(ref)),
                                                          distribution::repository::access::pull, {}));
    auto m = must(distribution::parse_manifest(must(repository->manifest(d.digest)).bytes, d.media_type));
    return must(repository->small_blob(m.config, 1 << 20));
  };
  CHECK(config_of(second, server.host() + "/other:two") == config_of(first, server.host() + "/cache:one"));
  // All on one registry: the blobs were mounted, none was pulled.
  CHECK(b.refs->blobs().list().empty());
}

TEST_CASE("a missing cache is an error that names it") {
  registry_process server;
  test_daemon d;
  auto importer = must(make_cache_importer("registry", {{"ref", server.host() + "/no/such"}}, d.resources));
  auto loaded = importer->load({});
  REQUIRE_FALSE(loaded.ok());
  CHECK(loaded.error().code == errc::not_found);
  CHECK(loaded.error().message.find("/no/such:latest: not found") != std::string::npos);
}

TEST_CASE("a cache written to a client's directory is read from it by another daemon") {
  content_client client("local:/the/cache");
  finished_build a;
  attributes attrs{{"dest", "/the/cache"}, {"mode", "max"}};
  auto response = run_export(a, "local", attrs, client.job());
  auto manifest = nlohmann::json::parse(response.at("cache.manifest"));
  CHECK(client.blobs().size() == 6);  // four layers, config, manifest
  CHECK(client.writes() == 6);
  run_export(a, "local", attrs, client.job());
  CHECK(client.writes() == 6);

  test_daemon b;
  attributes from{{"src", "/the/cache"}, {"digest", text_value(manifest["digest"])}};
  auto cache = run_import(b, "local", from, client.job());
  auto ref = must(cache->load(cache->results(find_copy(*cache).at(0))[0].id, *b.refs, client.job()));
  // The client may never come back: the bytes are here already.
  CHECK(b.refs->blobs().list().size() == 3);
  CHECK(copy_files(b, *cache, {}) == copied);
}

TEST_CASE("local caches that hold the same layers are imported at once") {
  content_client client("local:/the/cache");
  finished_build a;
  auto response = run_export(a, "local", {{"dest", "/the/cache"}, {"mode", "max"}}, client.job());
  auto manifest = nlohmann::json::parse(response.at("cache.manifest"));
  for (int round = 0; round < 10; ++round) {
    test_daemon b;
    std::atomic<int> loaded{0};
    std::vector<std::jthread> imports;
    for (int i = 0; i < 4; ++i)
      imports.emplace_back([&] {
        attributes from{{"src", "/the/cache"}, {"digest", text_value(manifest["digest"])}};
        auto importer = make_cache_importer("local", from, b.resources);
        if (!importer.ok()) return;
        auto cache = (*importer)->load(client.job());
        if (!cache.ok()) return;
        auto found = find_copy(**cache);
        if (found.empty()) return;
        loaded += (*cache)->load((*cache)->results(found[0])[0].id, *b.refs, client.job()).ok();
      });
    imports.clear();
    REQUIRE(loaded == 4);
    CHECK(b.refs->blobs().partials().empty());
  }
}

TEST_CASE("a blob that another is writing into the client's directory is waited for") {
  content_client client("local:/the/cache");
  finished_build a;
  client.lock(6);
  run_export(a, "local", {{"dest", "/the/cache"}, {"mode", "max"}}, client.job());
  CHECK(client.blobs().size() == 6);
  // Both of two exports, whoever is first with what.
  content_client other("local:/the/other");
  std::atomic<int> done{0};
  {
    std::vector<std::jthread> exports;
    for (int i = 0; i < 2; ++i)
      exports.emplace_back([&] {
        auto exporter = make_cache_exporter("local", {{"dest", "/the/other"}, {"mode", "max"}}, a.resources);
        done += exporter.ok() && export_cache(**exporter, a.scope, a.resources, other.job()).ok();
      });
  }
  CHECK(done == 2);
  CHECK(other.blobs().size() == 6);
}

TEST_CASE("a local cache needs a session, and what it names must be what it says") {
  finished_build a;
  auto exporter = must(make_cache_exporter("local", {{"dest", "/x"}}, a.resources));
  auto refused = export_cache(*exporter, a.scope, a.resources, {});
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().message == "local cache exporter/importer requires session");

  content_client client("local:/x");
  test_daemon d;
  client.set(sha256("one").str(), "another");
  auto importer =
      must(make_cache_importer("local", {{"src", "/x"}, {"digest", sha256("one").str()}}, d.resources));
  auto loaded = importer->load(client.job());
  REQUIRE_FALSE(loaded.ok());
  CHECK(loaded.error().code == errc::data_loss);
  importer =
      must(make_cache_importer("local", {{"src", "/x"}, {"digest", sha256("none").str()}}, d.resources));
  CHECK_FALSE(importer->load(client.job()).ok());
  client.set(sha256(std::string(2 << 20, 'x')).str(), std::string(2 << 20, 'x'));
  importer = must(make_cache_importer(
      "local", {{"src", "/x"}, {"digest", sha256(std::string(2 << 20, 'x')).str()}}, d.resources));
  loaded = importer->load(client.job());
  REQUIRE_FALSE(loaded.ok());
  CHECK(loaded.error().message.find("is too large (2097152 > 1048576)") != std::string::npos);
}

TEST_CASE("an image with an inline cache is a cache, also below an index") {
  registry_process server;
  finished_build a;
  auto layers = must(layer_exporter(*a.refs, nullptr, {}).run(std::vector<store::ref>{a.copy}, {}))[0];
  nlohmann::ordered_json config, m;
  std::vector<store::layer_blob> image;
  m["layers"] = nlohmann::json::array();
  for (const auto& l : layers) {
    image.push_back(l.blob);
    config["rootfs"]["diff_ids"].push_back(l.blob.diff_id.str());
    config["history"].push_back({{"created", "2024-01-01T00:00:00Z"}, {"created_by", "step"}});
    config["history"].push_back({{"empty_layer", true}});
    m["layers"].push_back(distribution::descriptor_json(l.blob.blob));
  }
  config["moby.buildkit.cache.v0"] =
      nlohmann::json::parse(must(inline_cache_of(a.scope, 0, image, a.resources, {})));
  auto keep = [&](const nlohmann::ordered_json& j, std::string_view type) {
    descriptor d;
    d.media_type = type;
    d.size = static_cast<std::int64_t>(j.dump().size());
    d.digest = must(a.refs->blobs().put(j.dump()));
    return d;
  };
  m["schemaVersion"] = 2;
  m["mediaType"] = distribution::media::oci_manifest;
  m["config"] = distribution::descriptor_json(keep(config, distribution::media::oci_config));
  distribution::push_options push;
  push.name = server.host() + "/app:v1";
  push.root = keep(m, distribution::media::oci_manifest);
  SECTION("alone") {}
  SECTION("below an index") {
    nlohmann::ordered_json index{{"schemaVersion", 2}, {"mediaType", distribution::media::oci_index}};
    index["manifests"].push_back(distribution::descriptor_json(push.root));
    push.root = keep(index, distribution::media::oci_index);
  }
  must(distribution::push_image(a.hosts, a.refs->blobs(), push, {}));

  test_daemon b;
  auto cache = run_import(b, "registry", {{"ref", push.name}}, {});
  CHECK(copy_files(b, *cache, {}) == copied);
  auto ref = must(cache->load(cache->results(find_copy(*cache).at(0))[0].id, *b.refs, {}));
  CHECK(must(b.refs->layers().of(ref, {})).back().description == "step");
}

TEST_CASE("an image without an inline cache imports as an empty cache") {
  registry_process server;
  test_daemon a;
  nlohmann::ordered_json m{{"schemaVersion", 2}, {"mediaType", distribution::media::oci_manifest}};
  auto blob = [&](const std::string& bytes, std::string_view type) {
    descriptor d;
    d.media_type = type;
    d.size = static_cast<std::int64_t>(bytes.size());
    d.digest = must(a.refs->blobs().put(bytes));
    return d;
  };
  m["config"] = distribution::descriptor_json(blob("{}", distribution::media::oci_config));
  m["layers"] =
      nlohmann::json::array({distribution::descriptor_json(blob("layer", distribution::media::oci_layer))});
  distribution::push_options push;
  push.name = server.host() + "/plain:v1";
  push.root = blob(m.dump(), distribution::media::oci_manifest);
  must(distribution::push_image(a.hosts, a.refs->blobs(), push, {}));
  auto cache = run_import(a, "registry", {{"ref", push.name}}, {});
  CHECK(cache->graph().size() == 0);
}
