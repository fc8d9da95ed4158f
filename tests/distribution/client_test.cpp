#include <catch2/catch.hpp>

#include <algorithm>
#include <future>

#include "auth.pb.h"
#include "base/base64.hpp"
#include "base/json_text.hpp"
#include "base/url.hpp"
#include "distribution/authorizer.hpp"
#include "distribution/client.hpp"
#include "distribution/image_json.hpp"
#include "distribution/media_types.hpp"
#include "distribution/push.hpp"
#include "tests/support/fake_client.hpp"
#include "tests/support/http_server.hpp"
#include "tests/support/registry_process.hpp"
#include "tests/support/temp_dir.hpp"

using namespace kiln;
using namespace kiln::distribution;
using test::http_answer;
using test::http_request;
using test::http_server;

namespace {

namespace pba = moby::filesync::v1;

struct setup {
  test::temp_dir dir;
  std::unique_ptr<store::blob_store> blobs = store::blob_store::open(dir / "blobs").value();
  hosts registries;
  job_context job;

  std::unique_ptr<repository> repo(const std::string& ref, repository::access a = repository::access::pull) {
    return repository::open(registries, parse_image_reference(ref).value(), a, job).value();
  }
};

descriptor blob_of(const std::string& bytes, std::string_view type = media::oci_layer_gzip) {
  descriptor d;
  d.media_type = type;
  d.digest = sha256(bytes);
  d.size = static_cast<std::int64_t>(bytes.size());
  return d;
}

/// An image of these layers in the store; its manifest's descriptor.
descriptor make_image(store::blob_store& blobs, const std::vector<std::string>& layers) {
  nlohmann::ordered_json m;
  m["schemaVersion"] = 2;
  m["mediaType"] = media::oci_manifest;
  std::string config = R"({"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}})";
  REQUIRE(blobs.put(config).ok());
  m["config"] = descriptor_json(blob_of(config, media::oci_config));
  m["layers"] = nlohmann::ordered_json::array();
  for (const auto& l : layers) {
    REQUIRE(blobs.put(l).ok());
    m["layers"].push_back(descriptor_json(blob_of(l)));
  }
  std::string text = m.dump();
  REQUIRE(blobs.put(text).ok());
  return blob_of(text, media::oci_manifest);
}

std::string incompressible(std::size_t n, unsigned seed) {
  std::string out(n, '\0');
  for (auto& c : out) c = static_cast<char>((seed = seed * 1'103'515'245 + 12'345) >> 16);
  return out;
}

/// A registry that has one manifest and one blob, for servers that misbehave elsewhere.
struct one_image {
  std::string blob = incompressible(300'000, 7);
  std::string manifest =
      R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":)" +
      descriptor_json(blob_of("{}", media::oci_config)).dump() + R"(,"layers":[]})";
  http_answer answer(const http_request& r) const {
    if (r.path.find("/manifests/") != std::string::npos)
      return {200,
              {{"Content-Type", std::string(media::oci_manifest)},
               {"Docker-Content-Digest", sha256(manifest).str()}},
              manifest};
    if (r.path.find("/blobs/" + sha256(blob).str()) != std::string::npos) {
      std::string range = r.header("range");
      if (range.empty()) return {200, {}, blob};
      auto begin = std::stoul(range.substr(6));
      return {206,
              {{"Content-Range", "bytes " + std::to_string(begin) + "-" + std::to_string(blob.size() - 1) +
                                     "/" + std::to_string(blob.size())}},
              blob.substr(begin)};
    }
    return {404, {}, R"({"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]})"};
  }
};

std::shared_ptr<test::fake_session> client_with_password(const std::string& user, const std::string& secret,
                                                         const std::string& id = "client") {
  auto s = std::make_shared<test::fake_session>(id);
  s->on_call("/moby.filesync.v1.Auth/Credentials",
             [=](std::string_view, const call_metadata&) -> result<std::string> {
               pba::CredentialsResponse r;
               r.set_username(user);
               r.set_secret(secret);
               return r.SerializeAsString();
             });
  return s;
}

}  // namespace

TEST_CASE("an image pushed to a real registry is resolved and pulled back, byte for byte") {
  test::registry_process server;
  setup a, b;
  std::string layer = incompressible(3 << 20, 1), small = "small";
  auto root = make_image(*a.blobs, {layer, small, layer});
  push_options options;
  options.name = server.host() + "/team/app:v1";
  options.root = root;
  REQUIRE(push_image(a.registries, *a.blobs, options, a.job).ok());

  auto repo = b.repo(options.name);
  auto resolved = repo->resolve();
  REQUIRE(resolved.ok());
  CHECK(resolved->digest == root.digest);
  CHECK(resolved->media_type == media::oci_manifest);
  CHECK(resolved->size == root.size);
  auto m = repo->manifest(root.digest);
  REQUIRE(m.ok());
  CHECK(sha256(m->bytes) == root.digest);
  std::int64_t seen = 0;
  REQUIRE(repo->fetch_blob(blob_of(layer), *b.blobs, [&](std::int64_t n, std::int64_t) { seen = n; }).ok());
  CHECK(seen == static_cast<std::int64_t>(layer.size()));
  CHECK((b.blobs->read_all(sha256(layer), 10 << 20).value() == layer));
  CHECK(b.blobs->info(sha256(layer))->labels[source_label(server.host())] == "team/app");

  // A blob known to be in another repository of the registry is mounted, not sent.
  push_options again = options;
  again.name = server.host() + "/team/other:v1";
  REQUIRE(b.blobs->put(small).ok());
  auto root2 = make_image(*b.blobs, {layer});
  again.root = root2;
  auto target = b.repo(again.name, repository::access::push);
  CHECK_FALSE(target->has_blob(sha256(layer)).value());
  CHECK(target->mount_blob(sha256(layer), "team/app").value());
  CHECK(target->has_blob(sha256(layer)).value());
  CHECK(push_image(b.registries, *b.blobs, again, b.job).ok());
}

TEST_CASE("labels that many give a blob at once are all there in the end") {
  setup s;
  auto d = s.blobs->put("a layer of many repositories").value();
  constexpr int each = 100;
  std::vector<std::future<void>> all;
  for (std::string who : {"a", "b", "c", "d"})
    all.push_back(std::async(std::launch::async, [&s, &d, who] {
      for (int i = 0; i < each; ++i)
        remember_source(*s.blobs, d, parse_image_reference(who + ".example/" + std::to_string(i)).value());
    }));
  for (auto& one : all) one.get();
  auto labels = s.blobs->info(d).value().labels;
  for (std::string who : {"a", "b", "c", "d"}) {
    auto& known = labels[source_label(who + ".example")];
    CHECK(std::count(known.begin(), known.end(), ',') == each - 1);
  }
}

TEST_CASE("pushing by digest leaves no tag, and a tagged name is refused") {
  test::registry_process server;
  setup s;
  push_options options;
  options.root = make_image(*s.blobs, {"layer"});
  options.by_digest = true;
  options.name = server.host() + "/x/y:tag";
  CHECK(push_image(s.registries, *s.blobs, options, s.job).error().message ==
        "can't push tagged ref " + options.name + " by digest");
  options.name = server.host() + "/x/y";
  REQUIRE(push_image(s.registries, *s.blobs, options, s.job).ok());
  CHECK(s.repo(options.name + "@" + options.root.digest.str())->resolve().ok());
  CHECK(s.repo(options.name + ":latest")->resolve().error().message == options.name + ":latest: not found");
}

TEST_CASE("basic authentication uses the client's credentials and fails clearly without them") {
  test::temp_dir dir;
  test::write_file(dir / "htpasswd", "kiln:$2y$05$zjrb0Lu9iWACiuY1zESh0uC8GIdMa9276Gaiui4I0ZjVcSLsqsQfi\n");
  test::registry_process server(
      "auth:\n  htpasswd:\n    realm: test\n    path: " + (dir / "htpasswd").string() + "\n");
  setup s;
  test::fake_directory clients;
  clients.add(client_with_password("kiln", "secret"));
  push_options options;
  options.name = server.host() + "/private/app:1";
  options.root = make_image(*s.blobs, {"layer"});
  REQUIRE(push_image(s.registries, *s.blobs, options, clients.job()).ok());
  s.job = clients.job();
  CHECK(s.repo(options.name)->resolve().ok());

  s.job = {};
  auto refused = s.repo(options.name)->resolve();
  CHECK(refused.error().message.find("pull access denied") == 0);
  CHECK(refused.error().message.find("401 Unauthorized") != std::string::npos);
  test::fake_directory strangers;
  strangers.add(client_with_password("kiln", "wrong", "stranger"));
  s.job = strangers.job();
  CHECK(s.repo(options.name)->resolve().error().code == errc::unauthenticated);
}

TEST_CASE("bearer tokens come from the client when it can fetch them, else from the token server") {
  one_image image;
  std::string realm;
  http_server server([&](const http_request& r) {
    if (r.path == "/token") {
      bool known = r.header("authorization") == "Basic " + base64_encode("kiln:secret");
      return http_answer{
          200,
          {},
          R"({"token":")" + std::string(known ? "user" : "anonymous") + R"(-token","expires_in":300})"};
    }
    std::string auth = r.header("authorization");
    if (auth == "Bearer client-token" || auth == "Bearer user-token" ||
        (auth == "Bearer anonymous-token" && r.path.find("public") != std::string::npos))
      return image.answer(r);
    return http_answer{
        401,
        {{"Www-Authenticate", "Bearer realm=\"" + realm + "\",service=\"svc\",scope=\"repository:x:pull\""}},
        ""};
  });
  realm = server.url() + "/token";

  SECTION("anonymously") {
    setup s;
    CHECK(s.repo(server.host() + "/public/x:1")->resolve().ok());
    CHECK(server.count("GET", "/token") == 1);
    CHECK(server.seen()[1].query.find("service=svc&scope=repository%3Apublic%2Fx%3Apull") !=
          std::string::npos);
    CHECK(s.repo(server.host() + "/public/x:1")->resolve().ok());
    CHECK(server.count("GET", "/token") == 1);  // kept
  }
  SECTION("with the client's password") {
    setup s;
    test::fake_directory clients;
    clients.add(client_with_password("kiln", "secret"));
    s.job = clients.job();
    CHECK(s.repo(server.host() + "/private/x:1")->resolve().ok());
    // Another client without a password does not get this one's token.
    test::fake_directory others;
    others.add(std::make_shared<test::fake_session>("somebody-else"));
    s.job = others.job();
    CHECK_FALSE(s.repo(server.host() + "/private/x:1")->resolve().ok());
  }
  SECTION("by the client itself") {
    setup s;
    auto session = std::make_shared<test::fake_session>("client");
    session->on_call("/moby.filesync.v1.Auth/GetTokenAuthority",
                     [](std::string_view bytes, const call_metadata&) -> result<std::string> {
                       pba::GetTokenAuthorityRequest req;
                       req.ParseFromString(std::string(bytes));
                       CHECK(req.salt().size() == 32);
                       pba::GetTokenAuthorityResponse r;
                       r.set_publickey(std::string(32, 'k'));
                       return r.SerializeAsString();
                     });
    session->on_call("/moby.filesync.v1.Auth/FetchToken",
                     [&](std::string_view bytes, const call_metadata&) -> result<std::string> {
                       pba::FetchTokenRequest req;
                       req.ParseFromString(std::string(bytes));
                       CHECK(req.clientid() == "buildkit-client");
                       CHECK(req.host() == server.host());
                       CHECK(req.realm() == realm);
                       CHECK(req.service() == "svc");
                       REQUIRE(req.scopes_size() == 1);
                       CHECK(req.scopes(0) == "repository:private/x:pull");
                       pba::FetchTokenResponse r;
                       r.set_token("client-token");
                       return r.SerializeAsString();
                     });
    test::fake_directory clients;
    clients.add(session);
    s.job = clients.job();
    CHECK(s.repo(server.host() + "/private/x:1")->resolve().ok());
    CHECK(server.count("GET", "/token") == 0);
  }
}

TEST_CASE("the host of a foreign layer gets no credentials, and plain http only where it is configured") {
  one_image image;
  std::atomic<int> with_credentials{0};
  http_server stranger([&](const http_request& r) {
    with_credentials += !r.header("authorization").empty();
    if (r.path == "/open") return http_answer{200, {}, image.blob};
    return http_answer{401, {{"Www-Authenticate", "Basic realm=\"give\""}}, ""};
  });
  setup s;
  test::fake_directory clients;
  std::vector<std::string> asked_for;
  auto session = client_with_password("kiln", "secret");
  session->on_call("/moby.filesync.v1.Auth/Credentials",
                   [&](std::string_view bytes, const call_metadata&) -> result<std::string> {
                     pba::CredentialsRequest req;
                     req.ParseFromString(std::string(bytes));
                     asked_for.push_back(req.host());
                     pba::CredentialsResponse r;
                     r.set_username("kiln");
                     r.set_secret("secret");
                     return r.SerializeAsString();
                   });
  clients.add(session);
  s.job = clients.job();
  http_server registry([&](const http_request& r) {
    if (r.header("authorization") != "Basic " + base64_encode("kiln:secret"))
      return http_answer{401, {{"Www-Authenticate", "Basic realm=\"registry\""}}, ""};
    return http_answer{404, {}, ""};
  });
  auto layer = blob_of(image.blob, media::docker_foreign_gzip);
  auto repo = s.repo(registry.host() + "/x:1");

  layer.urls = {stranger.url() + "/asks"};
  CHECK_FALSE(repo->fetch_blob(layer, *s.blobs, {}).ok());
  CHECK(stranger.count("GET", "/asks") > 0);
  CHECK(with_credentials == 0);
  CHECK(asked_for == std::vector<std::string>{registry.host()});

  // Not even where the registry's own credentials are known by then.
  layer.urls = {registry.url() + "/elsewhere"};
  CHECK_FALSE(repo->fetch_blob(layer, *s.blobs, {}).ok());
  for (const auto& r : registry.seen())
    if (r.path == "/elsewhere") CHECK(r.header("authorization").empty());

  layer.urls = {"http://layers.example/x", "ftp://layers.example/x"};
  CHECK(repo->fetch_blob(layer, *s.blobs, {})
            .error()
            .message.find(
                "foreign layer at http://layers.example: only https, or http where it is configured") == 0);
  layer.urls = {stranger.url() + "/open"};  // this machine
  CHECK(repo->fetch_blob(layer, *s.blobs, {}).ok());
}

TEST_CASE("a challenge from where a registry redirects to is not the registry's") {
  std::atomic<int> with_credentials{0};
  http_server stranger([&](const http_request& r) {
    with_credentials += !r.header("authorization").empty();
    return http_answer{401, {{"Www-Authenticate", "Basic realm=\"give\""}}, ""};
  });
  http_server registry([&](const http_request& r) {
    return http_answer{307, {{"Location", stranger.url() + r.path}}, ""};
  });
  setup s;
  test::fake_directory clients;
  int asked = 0;
  auto session = std::make_shared<test::fake_session>("client");
  session->on_call("/moby.filesync.v1.Auth/Credentials",
                   [&](std::string_view, const call_metadata&) -> result<std::string> {
                     ++asked;
                     return make_error(errc::not_found, "none");
                   });
  clients.add(session);
  s.job = clients.job();
  CHECK_FALSE(s.repo(registry.host() + "/x:1")->resolve().ok());
  CHECK(asked == 0);
  CHECK(with_credentials == 0);
}

TEST_CASE("credentials are not sent to a token server in clear text, nor where it redirects them to") {
  setup s;
  test::fake_directory clients;
  clients.add(client_with_password("", "identity-token"));
  auto job = clients.job();
  auto token_of = [&](const std::string& registry_url, const std::string& realm) {
    response refusal;
    refusal.status = 401;
    refusal.url = registry_url;
    refusal.headers.emplace("www-authenticate", "Bearer realm=\"" + realm + "\",service=\"s\"");
    hosts fresh;
    authorizer& a = fresh.authorizer();
    REQUIRE(a.challenged("reg.example", refusal, "", {"repository:x:pull"}, job, nullptr).ok());
    auto header = a.authorize("reg.example", {"repository:x:pull"}, job, nullptr);
    return header.ok() ? *header : header.error().message;
  };
  CHECK(token_of("https://reg.example/v2/", "http://auth.example/token") ==
        "failed to authorize: failed to fetch oauth token: token realm http://auth.example is not https, as "
        "the "
        "registry is: it gets no credentials");
  std::atomic<int> got{0};
  http_server stranger([&](const http_request& r) {
    got += !r.body.empty() || !r.header("authorization").empty();
    return http_answer{200, {}, R"({"token":"t"})"};
  });
  http_server tokens([&](const http_request& r) {
    if (r.path == "/moved") return http_answer{307, {{"Location", stranger.url() + "/token"}}, ""};
    return http_answer{200, {}, R"({"token":"mine"})"};
  });
  CHECK(token_of("http://reg.example/v2/", tokens.url() + "/token") == "Bearer mine");
  CHECK(token_of("http://reg.example/v2/", tokens.url() + "/moved").find("307") != std::string::npos);
  CHECK(got == 0);
}

TEST_CASE("a refused token is fetched anew, and a hopeless refusal ends") {
  one_image image;
  std::atomic<int> tokens{0};
  std::string url;
  http_server server([&](const http_request& r) {
    if (r.path == "/token")
      return http_answer{200, {}, R"({"access_token":"t)" + std::to_string(++tokens) + R"("})"};
    if (r.header("authorization") == "Bearer t2") return image.answer(r);
    return http_answer{
        401, {{"Www-Authenticate", "Bearer realm=\"" + url + "/token\",error=\"invalid_token\""}}, ""};
  });
  url = server.url();
  setup s;
  CHECK(s.repo(server.host() + "/x:1")->resolve().ok());
  tokens = 10;
  hosts fresh;
  auto repo = repository::open(fresh, parse_image_reference(server.host() + "/x:1").value(),
                               repository::access::pull, s.job)
                  .value();
  CHECK_FALSE(repo->resolve().ok());
  CHECK(tokens < 14);
}

TEST_CASE("a download that breaks off is resumed where it stopped") {
  one_image image;
  std::atomic<int> gets{0};
  http_server server([&](const http_request& r) {
    auto a = image.answer(r);
    if (r.method == "GET" && ++gets <= 2) a.send_only = 100'000;
    return a;
  });
  setup s;
  REQUIRE(s.repo(server.host() + "/x:1")->fetch_blob(blob_of(image.blob), *s.blobs, {}).ok());
  auto seen = server.seen();
  REQUIRE(seen.size() == 3);
  CHECK(seen[0].header("range").empty());
  CHECK(seen[1].header("range").starts_with("bytes="));
  CHECK(seen[1].header("range") != seen[2].header("range"));
  CHECK((s.blobs->read_all(sha256(image.blob), 1 << 20).value() == image.blob));
}

TEST_CASE("content that is not what its digest says is refused and leaves nothing") {
  one_image image;
  std::string flipped = image.blob;
  flipped[1'000] ^= 1;
  std::string served = flipped;
  http_server server([&](const http_request& r) {
    if (r.path.find("/blobs/") != std::string::npos) return http_answer{200, {}, served};
    auto a = image.answer(r);
    a.body += " ";
    return a;
  });
  setup s;
  auto repo = s.repo(server.host() + "/x:1");
  auto got = repo->fetch_blob(blob_of(image.blob), *s.blobs, {});
  CHECK(got.error().code == errc::data_loss);
  CHECK_FALSE(s.blobs->has(sha256(image.blob)));
  CHECK_FALSE(s.blobs->has(sha256(flipped)));
  served = image.blob + "more";
  CHECK(repo->fetch_blob(blob_of(image.blob), *s.blobs, {}).error().code == errc::data_loss);
  CHECK(repo->manifest(sha256(image.manifest)).error().code == errc::data_loss);
  served = image.blob;
  CHECK(repo->fetch_blob(blob_of(image.blob), *s.blobs, {}).ok());
}

TEST_CASE("temporary failures are retried, lasting ones are reported with what the registry says") {
  one_image image;
  std::atomic<int> calls{0};
  int fail_first = 2;
  http_answer failure{503, {{"Retry-After", "0"}}, ""};
  http_server server(
      [&](const http_request& r) { return ++calls <= fail_first ? failure : image.answer(r); });
  setup s;
  auto repo = s.repo(server.host() + "/x:1");
  CHECK(repo->resolve().ok());
  CHECK(calls == 3);
  calls = 0;
  failure = {429, {{"Retry-After", "0"}}, ""};
  CHECK(repo->manifest(sha256(image.manifest)).ok());
  CHECK(calls == 3);
  calls = 0;
  fail_first = 1'000;
  failure = {
      403, {}, R"({"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]})"};
  auto denied = repo->manifest(sha256(image.manifest));
  CHECK(denied.error().code == errc::permission_denied);
  CHECK(denied.error().message.find("403 Forbidden: denied: requested access") != std::string::npos);
  CHECK(calls == 1);
}

TEST_CASE("mirrors are asked first and the registry itself when they do not help") {
  one_image image;
  http_server empty([](const http_request&) { return http_answer{404, {}, ""}; });
  http_server origin([&](const http_request& r) { return image.answer(r); });
  configs::registry_config c;
  c.mirrors = {empty.host() + "/cache", "127.0.0.1:1"};
  setup s;
  hosts registries({{origin.host(), c}});
  auto ref = parse_image_reference(origin.host() + "/x:1").value();
  auto repo = repository::open(registries, ref, repository::access::pull, s.job).value();
  CHECK(repo->resolve().ok());
  CHECK(repo->fetch_blob(blob_of(image.blob), *s.blobs, {}).ok());
  REQUIRE_FALSE(empty.seen().empty());
  CHECK(empty.seen()[0].path == "/v2/cache/x/manifests/1");
  CHECK(empty.seen()[0].query == "ns=" + url_escape(origin.host()));
  CHECK(origin.count("GET", "/blobs/") == 1);
}

TEST_CASE("of the failures of several places the one that says most is told") {
  auto place = [](int status) {
    return std::make_unique<http_server>([status](const http_request&) {
      return http_answer{status, {}, ""};
    });
  };
  auto missing = place(404), refusing = place(403), origin = place(404);
  const std::string nowhere = "127.0.0.1:1";
  setup s;
  auto failure_of = [&](const std::vector<std::string>& mirrors) {
    configs::registry_config with_mirrors, plain;
    with_mirrors.mirrors = mirrors;
    plain.http = true;
    hosts registries({{origin->host(), with_mirrors}, {nowhere, plain}});
    auto ref = parse_image_reference(origin->host() + "/x:1").value();
    auto repo = repository::open(registries, ref, repository::access::pull, s.job).value();
    auto resolved = repo->resolve().error();
    // All questions are told alike.
    CHECK(repo->manifest(sha256("x")).error().code == resolved.code);
    CHECK(repo->fetch_blob(blob_of("x"), *s.blobs, {}).error().code == resolved.code);
    return resolved;
  };
  // That one lacks it says more than that another cannot be reached, whichever comes first.
  CHECK(failure_of({missing->host(), nowhere}) ==
        make_error(errc::not_found, origin->host() + "/x:1: not found"));
  CHECK(failure_of({nowhere}).code == errc::not_found);
  CHECK(failure_of({missing->host(), refusing->host(), nowhere}).code == errc::permission_denied);
}

TEST_CASE(
    "what there is about a manifest is listed by the registry's API, or by the tag that stands for it") {
  nlohmann::ordered_json index{{"schemaVersion", 2}, {"mediaType", media::oci_index}};
  auto signature = blob_of("signature", media::oci_manifest);
  signature.artifact_type = "application/x";
  index["manifests"].push_back(descriptor_json(signature));
  auto subject = sha256("subject");
  for (bool api : {true, false}) {
    http_server server([&](const http_request& r) -> http_answer {
      http_answer found{200, {{"Content-Type", std::string(media::oci_index)}}, index.dump()};
      if (api && r.path == "/v2/x/referrers/" + subject.str()) return found;
      if (!api && r.path == "/v2/x/manifests/sha256-" + subject.str().substr(7)) return found;
      return {404, {}, ""};
    });
    setup s;
    auto about = s.repo(server.host() + "/x:1")->referrers(subject);
    REQUIRE(about.ok());
    REQUIRE(about->size() == 1);
    CHECK(about->at(0).digest == signature.digest);
    CHECK(about->at(0).artifact_type == "application/x");
    auto nothing = s.repo(server.host() + "/y:1")->referrers(subject);
    REQUIRE(nothing.ok());
    CHECK(nothing->empty());
  }
}

TEST_CASE("several jobs that want one blob fetch it once") {
  one_image image;
  http_server server([&](const http_request& r) { return image.answer(r); });
  setup s;
  std::vector<std::future<bool>> all;
  for (int i = 0; i < 6; ++i)
    all.push_back(std::async(std::launch::async, [&] {
      return s.repo(server.host() + "/x:1")->fetch_blob(blob_of(image.blob), *s.blobs, {}).ok();
    }));
  for (auto& f : all) CHECK(f.get());
  CHECK(server.count("GET", "/blobs/") == 1);
}

TEST_CASE("an upload that fails is repeated, in pieces when it is large") {
  std::string stored;
  std::atomic<int> puts{0};
  http_server server([&](const http_request& r) -> http_answer {
    if (r.method == "POST") return {202, {{"Location", "/v2/x/blobs/uploads/1?state=a"}}, ""};
    if (r.method == "HEAD") return {404, {}, ""};
    if (r.method == "PATCH") {
      stored += r.body;
      return {202, {{"Location", "/v2/x/blobs/uploads/1?state=b" + std::to_string(stored.size())}}, ""};
    }
    if (r.method == "PUT" && ++puts == 1) return {502, {}, ""};
    return {201, {}, ""};
  });
  setup s;
  std::string big = incompressible(40 << 20, 3);
  REQUIRE(s.blobs->put(big).ok());
  REQUIRE(s.repo(server.host() + "/x", repository::access::push)->push_blob(blob_of(big), *s.blobs, {}).ok());
  CHECK((stored == big));
  CHECK(server.count("PATCH", "/uploads/") == 2);
  auto last = server.seen().back();
  CHECK(last.method == "PUT");
  CHECK(last.query.find("digest=" + url_escape(sha256(big).str())) != std::string::npos);
}

TEST_CASE("schema 1 manifests and oversized ones are refused") {
  std::string body;
  http_server server([&](const http_request&) {
    return http_answer{
        200, {{"Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws"}}, body};
  });
  setup s;
  body = std::string(5 << 20, ' ');
  CHECK(s.repo(server.host() + "/x:1")->manifest(sha256(body)).error().code == errc::resource_exhausted);
}
