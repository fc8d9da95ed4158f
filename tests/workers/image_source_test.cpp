#include <catch2/catch.hpp>

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/json_text.hpp"
#include "distribution/image_json.hpp"
#include "distribution/image_names.hpp"
#include "distribution/media_types.hpp"
#include "distribution/push.hpp"
#include "store/archive/codec.hpp"
#include "store/archive/tar_writer.hpp"
#include "tests/support/byte_streams.hpp"
#include "tests/support/fake_client.hpp"
#include "tests/support/http_server.hpp"
#include "tests/support/registry_process.hpp"
#include "tests/support/temp_dir.hpp"
#include "workers/sources/image.hpp"
#include "workers/sources/resolutions.hpp"

using namespace kiln;
namespace media = distribution::media;
namespace gw = moby::buildkit::v1::frontend;

namespace {

std::string layer_tar(const std::map<std::string, std::string>& files) {
  test::string_sink sink;
  store::tar_writer tar(sink);
  for (const auto& [name, text] : files) {
    store::tar_entry e;
    e.name = name;
    e.mode = 0644;
    e.size = static_cast<std::int64_t>(text.size());
    REQUIRE(tar.header(e).ok());
    REQUIRE(tar.content(text).ok());
    REQUIRE(tar.end_entry().ok());
  }
  REQUIRE(tar.finish().ok());
  return sink.bytes;
}

std::string gzipped(const std::string& bytes) {
  test::string_sink sink;
  auto c = store::make_compressor(store::compression::gzip, {}, sink);
  REQUIRE(c->write(bytes).ok());
  REQUIRE(c->finish().ok());
  return sink.bytes;
}

/// Puts images into a blob store, to be pushed or served.
struct image_maker {
  store::blob_store& blobs;

  descriptor put(const std::string& bytes, std::string_view type) {
    descriptor d;
    d.media_type = type;
    d.size = static_cast<std::int64_t>(bytes.size());
    d.digest = blobs.put(bytes).value();
    return d;
  }
  descriptor image(const std::string& arch, const std::vector<std::string>& tars, bool docker = false) {
    nlohmann::ordered_json config{{"os", "linux"},
                                  {"architecture", arch},
                                  {"rootfs", {{"type", "layers"}, {"diff_ids", nlohmann::json::array()}}}};
    nlohmann::ordered_json m{{"schemaVersion", 2},
                             {"mediaType", docker ? media::docker_manifest : media::oci_manifest}};
    auto layers = nlohmann::ordered_json::array();
    for (const auto& t : tars) {
      config["rootfs"]["diff_ids"].push_back(sha256(t).str());
      layers.push_back(distribution::descriptor_json(
          put(gzipped(t), docker ? media::docker_layer_gzip : media::oci_layer_gzip)));
    }
    m["config"] =
        distribution::descriptor_json(put(config.dump(), docker ? media::docker_config : media::oci_config));
    m["layers"] = layers;
    auto d = put(m.dump(), docker ? media::docker_manifest : media::oci_manifest);
    d.platform = parse_platform("linux/" + arch).value();
    return d;
  }
  descriptor index(std::vector<descriptor> entries) {
    nlohmann::ordered_json j{
        {"schemaVersion", 2}, {"mediaType", media::oci_index}, {"manifests", nlohmann::json::array()}};
    for (const auto& e : entries) j["manifests"].push_back(distribution::descriptor_json(e));
    return put(j.dump(), media::oci_index);
  }
};

struct setup {
  test::temp_dir dir;
  std::unique_ptr<store::ref_store> store =
      store::ref_store::open({dir / "state", store::snapshotter_kind::automatic}).value();
  std::unique_ptr<store::blob_store> far = store::blob_store::open(dir / "far").value();
  distribution::hosts hosts;
  image_maker maker{*far};
  std::unique_ptr<workers::source_handler> source = workers::make_image_source(*store, hosts);
  test::recording_progress progress;
  job_context job;
  std::shared_ptr<workers::resolutions> build = std::make_shared<workers::resolutions>();
  setup() { job.progress = &progress; }

  void push(const std::string& name, const descriptor& root) {
    distribution::push_options o;
    o.name = name;
    o.root = root;
    auto s = distribution::push_image(hosts, *far, o, {});
    INFO((s.ok() ? "" : s.error().message));
    REQUIRE(s.ok());
  }
  workers::op_request op(const std::string& ref, const std::map<std::string, std::string>& attrs = {},
                         const std::string& p = "linux/amd64") {
    workers::op_request r;
    r.vertex = sha256(ref).str();
    r.build = build;
    r.platform = parse_platform(p).value();
    r.op.mutable_source()->set_identifier("docker-image://" + ref);
    for (const auto& [k, v] : attrs) (*r.op.mutable_source()->mutable_attrs())[k] = v;
    return r;
  }
  std::string read(const store::ref& r, const std::string& path) {
    auto m = store::mounted::make(*store, store->files().mounts(r, job).value()).value();
    return test::read_file(m.path() / path);
  }
  int layers_here(const descriptor& manifest) {
    auto m =
        distribution::parse_manifest(far->read_all(manifest.digest, 1 << 20).value(), manifest.media_type)
            .value();
    return static_cast<int>(std::count_if(m.layers.begin(), m.layers.end(),
                                          [&](const auto& l) { return store->blobs().has(l.digest); }));
  }
  result<gw::ResolveSourceMetaResponse> meta(const std::string& ref, const std::string& p = "linux/amd64") {
    gw::ResolveSourceMetaRequest r;
    r.mutable_source()->set_identifier("docker-image://" + ref);
    to_proto(parse_platform(p).value(), *r.mutable_platform());
    return source->resolve_meta(r, build, job);
  }
};

}  // namespace

TEST_CASE("an image is keyed by its manifest and by its chain of layers, without moving a layer") {
  test::registry_process server;
  setup s;
  std::string a = layer_tar({{"a", "1"}}), b = layer_tar({{"b", "2"}});
  auto image = s.maker.image("amd64", {a, b});
  s.push(server.host() + "/x:1", image);
  auto request = s.op(server.host() + "/x:1");
  auto first = s.source->cache_map(request, 0, s.job);
  REQUIRE(first.ok());
  CHECK(first->more);
  CHECK(first->op_digest ==
        sha256("buildkit.source.v0:" +
               sha256(R"({"Digest":")" + image.digest.str() + R"(","OS":"linux","Arch":"amd64"})").str()));
  auto second = s.source->cache_map(request, 1, s.job);
  REQUIRE(second.ok());
  CHECK_FALSE(second->more);
  auto chain = distribution::chain_id({sha256(a), sha256(b)});
  CHECK(second->op_digest == sha256("buildkit.source.v0:" + chain.str()));
  CHECK(s.layers_here(image) == 0);
  auto refs = s.source->run(request, {}, s.job);
  REQUIRE(refs.ok());
  CHECK(s.layers_here(image) == 0);
  CHECK(s.read(refs->at(0), "a") == "1");
  CHECK(s.read(refs->at(0), "b") == "2");
  CHECK(s.layers_here(image) == 2);
  auto usage = s.store->space().disk_usage({}).value();
  CHECK(std::all_of(usage.begin(), usage.end(),
                    [&](const auto& u) { return u.description == "pulled from " + server.host() + "/x:1"; }));
}

TEST_CASE("of an index the platform's image is taken and attestations are passed over") {
  test::registry_process server;
  setup s;
  auto amd = s.maker.image("amd64", {layer_tar({{"f", "amd"}})}),
       arm = s.maker.image("arm64", {layer_tar({{"f", "arm"}})}, true);
  auto attestation = s.maker.image("unknown", {});
  attestation.platform = kiln::platform{"unknown", "unknown", "", "", {}};
  attestation.annotations = {{"vnd.docker.reference.type", "attestation-manifest"},
                             {"vnd.docker.reference.digest", amd.digest.str()}};
  auto root = s.maker.index({attestation, amd, arm});
  std::string name = server.host() + "/multi:1";
  s.push(name, root);
  for (std::string p : {"amd64", "arm64"}) {
    auto refs = s.source->run(s.op(name, {}, "linux/" + p), {}, s.job);
    REQUIRE(refs.ok());
    CHECK(s.read(refs->at(0), "f") == p.substr(0, 3));
    auto m = s.meta(name, "linux/" + p);
    REQUIRE(m.ok());
    CHECK(m->image().digest() == root.digest.str());
    CHECK(nlohmann::json::parse(m->image().config())["architecture"] == p);
  }
  CHECK(s.meta(name, "linux/s390x").error().message ==
        "no match for platform in manifest " + root.digest.str() + ": not found");
  gw::ResolveSourceMetaRequest r;
  r.mutable_source()->set_identifier("docker-image://" + name);
  r.mutable_image()->set_noconfig(true);
  r.mutable_image()->set_attestationchain(true);
  to_proto(parse_platform("linux/amd64").value(), *r.mutable_platform());
  auto chain = s.source->resolve_meta(r, s.build, s.job);
  REQUIRE(chain.ok());
  CHECK(chain->image().config().empty());
  CHECK(chain->image().attestationchain().root() == root.digest.str());
  CHECK(chain->image().attestationchain().imagemanifest() == amd.digest.str());
  CHECK(chain->image().attestationchain().attestationmanifest() == attestation.digest.str());
  CHECK(chain->image().attestationchain().blobs().size() == 2);
  CHECK(chain->image().attestationchain().signaturemanifests().empty());

  // Signatures, by the tag that this registry has for what is about a manifest: a bundle counts first.
  auto signed_by = [&](const std::string& type) {
    auto bundle = s.maker.put("the signature of type " + type, type);
    nlohmann::ordered_json m{
        {"schemaVersion", 2}, {"mediaType", media::oci_manifest}, {"artifactType", type}};
    m["config"] = distribution::descriptor_json(s.maker.put("{}", "application/vnd.oci.empty.v1+json"));
    m["layers"].push_back(distribution::descriptor_json(bundle));
    auto d = s.maker.put(m.dump(), media::oci_manifest);
    d.artifact_type = type;
    return std::pair{d, bundle};
  };
  auto [old_kind, old_layer] = signed_by("application/vnd.dev.cosign.artifact.sig.v1+json");
  auto [bundle, layer] = signed_by("application/vnd.dev.sigstore.bundle.v0.3+json");
  s.push(server.host() + "/multi:sha256-" + attestation.digest.str().substr(7),
         s.maker.index({old_kind, bundle}));
  chain = s.source->resolve_meta(r, std::make_shared<workers::resolutions>(), s.job);
  REQUIRE(chain.ok());
  const auto& signed_chain = chain->image().attestationchain();
  REQUIRE(signed_chain.signaturemanifests_size() == 1);
  CHECK(signed_chain.signaturemanifests(0) == bundle.digest.str());
  CHECK(signed_chain.blobs().at(layer.digest.str()).data() ==
        "the signature of type application/vnd.dev.sigstore.bundle.v0.3+json");
  CHECK(signed_chain.blobs().size() == 4);
}

TEST_CASE("attributes are honoured and bad ones refused") {
  test::registry_process server;
  setup s;
  auto image = s.maker.image("amd64", {layer_tar({{"a", "1"}}), layer_tar({{"b", "2"}})});
  std::string name = server.host() + "/x:1";
  s.push(name, image);
  auto limited =
      s.source->run(s.op(name, {{"image.layerlimit", "1"}, {"image.recordtype", "frontend"}}), {}, s.job);
  REQUIRE(limited.ok());
  CHECK(s.read(limited->at(0), "a") == "1");
  CHECK(s.read(limited->at(0), "b").empty());
  CHECK(s.store->space().disk_usage({}).value().at(0).type == store::record_type::frontend);
  auto message = [&](const std::map<std::string, std::string>& attrs) {
    auto r = s.source->cache_map(s.op(name, attrs), 0, s.job);
    return r.ok() ? std::string("fine") : r.error().message;
  };
  CHECK(message({{"image.layerlimit", "3"}}) ==
        "layer limit 3 is greater than the number of layers in the image 2");
  CHECK(message({{"image.layerlimit", "0"}}) == "invalid layer limit 0");
  CHECK(message({{"image.resolvemode", "often"}}) == "invalid resolvemode: often");
  CHECK(message({{"image.recordtype", "odd"}}) == "invalid record type odd");
  std::string other = "sha256:" + std::string(64, '0');
  CHECK(message({{"image.checksum", other}}) ==
        "image digest " + image.digest.str() + " for " + name + " does not match expected checksum " + other);
  CHECK(message({{"image.checksum", image.digest.str()}}) == "fine");
}

TEST_CASE("what is not there is said by name") {
  test::registry_process server;
  setup s;
  std::string name = server.host() + "/none:1";
  CHECK(s.source->cache_map(s.op(name), 0, s.job).error().message == name + ": not found");
  CHECK(s.source->cache_map(s.op(name), 0, s.job).error().code == errc::not_found);
  CHECK_FALSE(s.source->cache_map(s.op("no tag"), 0, s.job).ok());
  CHECK_FALSE(s.source->cache_map(s.op(server.host() + "/x"), 0, s.job).ok());
}

TEST_CASE("a moved tag counts for the next build but not within one") {
  test::registry_process server;
  setup s;
  std::string name = server.host() + "/x:1";
  auto one = s.maker.image("amd64", {layer_tar({{"f", "one"}})}),
       two = s.maker.image("amd64", {layer_tar({{"f", "two"}})});
  s.push(name, one);
  auto request = s.op(name);
  auto key = s.source->cache_map(request, 0, s.job)->op_digest;
  s.push(name, two);
  CHECK(s.read(s.source->run(request, {}, s.job)->at(0), "f") == "one");
  CHECK(s.source->cache_map(request, 0, s.job)->op_digest == key);
  // Also where it is asked for in other words: by its config, pulled anew, for another platform.
  CHECK(s.meta(name)->image().digest() == one.digest.str());
  CHECK(s.read(s.source->run(s.op(name, {{"image.resolvemode", "pull"}}), {}, s.job)->at(0), "f") == "one");
  CHECK(s.source->cache_map(s.op(name, {}, "linux/arm64"), 0, s.job)->pin == one.digest.str());
  s.build = std::make_shared<workers::resolutions>();
  CHECK(s.meta(name)->image().digest() == two.digest.str());
  request = s.op(name);
  CHECK(s.source->cache_map(request, 0, s.job)->op_digest != key);
  CHECK(s.read(s.source->run(request, {}, s.job)->at(0), "f") == "two");
}

TEST_CASE("one build asks for a tag once, whoever asks and however often, and for each blob once") {
  setup s;
  auto one = s.maker.image("amd64", {layer_tar({{"f", "one"}})}),
       two = s.maker.image("amd64", {layer_tar({{"f", "two"}})});
  std::atomic<bool> moved{false};
  test::http_server server([&](const test::http_request& r) -> test::http_answer {
    auto name = r.path.substr(r.path.rfind('/') + 1);
    auto d = name == "1" ? result<kiln::digest>((moved ? two : one).digest) : digest::parse(name);
    if (!d.ok()) return {.status = r.path == "/v2/" ? 200 : 404, .headers = {}, .body = ""};
    auto bytes = s.far->read_all(*d, 1 << 20);
    if (!bytes.ok()) return {.status = 404, .headers = {}, .body = ""};
    bool manifest = r.path.find("/manifests/") != std::string::npos;
    return {.headers = {{"Content-Type",
                         manifest ? std::string(media::oci_manifest) : "application/octet-stream"},
                        {"Docker-Content-Digest", d->str()}},
            .body = *bytes};
  });
  auto name = server.host() + "/x:1";
  auto asked = [&](const std::string& what) {
    return server.count("GET", what) + server.count("HEAD", what);
  };
  auto build = [&](const char* content) {
    std::vector<std::thread> many;
    for (int i = 0; i < 4; ++i) many.emplace_back([&] { (void)s.source->cache_map(s.op(name), 0, {}); });
    for (auto& t : many) t.join();
    auto before = asked("");
    moved = !moved;  // from now on the tag leads elsewhere
    auto digest = s.meta(name)->image().digest();
    for (int index : {0, 1}) CHECK(s.source->cache_map(s.op(name), index, s.job)->pin == digest);
    CHECK(s.meta(name)->image().digest() == digest);
    CHECK(asked("") == before);
    CHECK(s.read(s.source->run(s.op(name), {}, s.job)->at(0), "f") == content);
    CHECK(s.source->cache_map(s.op(name, {{"image.resolvemode", "pull"}}), 1, s.job)->pin == digest);
    CHECK(asked("") == before + 1);  // the layer
    return digest;
  };
  CHECK(build("one") == one.digest.str());
  CHECK(asked("/manifests/1") == 1);
  CHECK(asked("/manifests/sha256:") == 1);
  CHECK(asked("/blobs/") == 2);
  s.build = std::make_shared<workers::resolutions>();
  CHECK(build("two") == two.digest.str());
  CHECK(asked("/manifests/1") == 2);
  CHECK(asked("/manifests/sha256:") == 2);
  CHECK(asked("/blobs/") == 4);
}

TEST_CASE("known digests need no registry, and a registry that is away is no end") {
  setup s;
  std::string name;
  descriptor image;
  {
    test::registry_process server;
    name = server.host() + "/x:1";
    image = s.maker.image("amd64", {layer_tar({{"f", "x"}})});
    s.push(name, image);
    REQUIRE(s.source->cache_map(s.op(name), 0, s.job).ok());
    auto r = s.source->run(s.op(name), {}, s.job);
    REQUIRE(s.store->files().materialize(r->at(0), s.job).ok());
  }
  s.build = std::make_shared<workers::resolutions>();
  CHECK(s.source->cache_map(s.op(name + "@" + image.digest.str()), 0, s.job).ok());
  CHECK(s.source->cache_map(s.op(name, {{"image.resolvemode", "local"}}), 0, s.job).ok());
  CHECK(s.progress.warnings.empty());
  s.build = std::make_shared<workers::resolutions>();
  CHECK(s.source->cache_map(s.op(name), 0, s.job).ok());
  REQUIRE(s.progress.warnings.size() == 1);
  CHECK(s.progress.warnings[0].find("using the local copy of " + name) == 0);
  s.build = std::make_shared<workers::resolutions>();
  CHECK(s.source->cache_map(s.op(name, {{"image.resolvemode", "pull"}}), 0, s.job).error().code ==
        errc::unavailable);
}

TEST_CASE("images of this daemon's own store are found by name") {
  test::registry_process server;
  setup s;
  image_maker here{s.store->blobs()};
  auto image = here.image("amd64", {layer_tar({{"f", "built here"}})});
  std::string name = server.host() + "/local/app:latest";
  REQUIRE(s.store->values()
              .set(distribution::image_store_bucket, name, distribution::descriptor_json(image).dump())
              .ok());
  auto refs = s.source->run(s.op(name), {}, s.job);
  REQUIRE(refs.ok());
  CHECK(s.read(refs->at(0), "f") == "built here");
}

TEST_CASE("a layer that is not what it should be fails the build clearly and is not kept") {
  setup s;
  auto image = s.maker.image("amd64", {layer_tar({{"f", std::string(10'000, 'x')}})});
  auto m = distribution::parse_manifest(s.far->read_all(image.digest, 1 << 20).value(), "").value();
  bool lie = true;
  test::http_server server([&](const test::http_request& r) -> test::http_answer {
    if (r.path.find("/manifests/") != std::string::npos)
      return {200,
              {{"Content-Type", image.media_type}, {"Docker-Content-Digest", image.digest.str()}},
              s.far->read_all(image.digest, 1 << 20).value()};
    auto d = digest::trusted(r.path.substr(r.path.rfind('/') + 1));
    auto bytes = s.far->read_all(d, 1 << 20);
    if (!bytes.ok()) return {404, {}, ""};
    if (lie && d == m.layers[0].digest) bytes->back() ^= 1;
    return {200, {}, *bytes};
  });
  std::string name = server.host() + "/x:1";
  auto refs = s.source->run(s.op(name), {}, s.job);
  REQUIRE(refs.ok());
  auto bad = s.store->files().materialize(refs->at(0), s.job);
  REQUIRE_FALSE(bad.ok());
  CHECK(bad.error().code == errc::data_loss);
  CHECK_FALSE(s.store->blobs().has(m.layers[0].digest));
  lie = false;
  CHECK(s.store->files().materialize(refs->at(0), s.job).ok());
}
