// Caches in GitHub's Actions cache, against a service with the rules of the real one
// (tests/support/github_cache.py).
#include <catch2/catch.hpp>

#include <sys/stat.h>

#include <chrono>
#include <ctime>
#include <fstream>
#include <iterator>

#include "base/base64.hpp"
#include "exporters/cache/gha_signing.hpp"
#include "exporters/cache/gha_store.hpp"
#include "exporters/cache/http_object_store.hpp"
#include "tests/exporters/cache_fixture.hpp"
#include "tests/support/github_cache.hpp"
#include "tests/support/little_sigstore.hpp"
#include "tests/support/temp_dir.hpp"

using namespace kiln;
using namespace kiln::exporters;
using namespace kiln::exporters::testing;

namespace {

const std::string main_scope = "scope=refs/heads/main:3";
const std::string pull_scope = "scope=refs/pull/7/merge:3&scope=refs/heads/main:1";
/// sha256 of the scopes' names, as `index-NAME-1-…` has them.
const std::string main_index =
    "index-buildkit-1-" + std::string(sha256("refs/heads/main").hex().substr(0, 8));
const std::string pull_index =
    "index-buildkit-1-" + std::string(sha256("refs/pull/7/merge").hex().substr(0, 8));

struct service : test::github_cache {
  attributes attrs(int version, const std::string& scopes = main_scope) {
    return {{version == 2 ? "url_v2" : "url", url() + "/"}, {"token", token(scopes)}, {"mode", "max"}};
  }
};

void must_export(finished_build& b, const attributes& attrs) {
  auto exporter = must(make_cache_exporter("gha", attrs, b.resources));
  CHECK(exporter->name() == "exporting to GitHub Actions Cache");
  CHECK(exporter->options().mode == cache_mode::max);
  CHECK(must(export_cache(*exporter, b.scope, b.resources, {})).empty());
}

std::string export_failure(finished_build& b, const attributes& attrs) {
  auto exporter = must(make_cache_exporter("gha", attrs, b.resources));
  auto done = export_cache(*exporter, b.scope, b.resources, {});
  return done.ok() ? std::string() : done.error().message;
}

std::shared_ptr<imported_cache> import(test_daemon& d, const attributes& attrs) {
  return must(must(make_cache_importer("gha", attrs, d.resources))->load({}));
}

/// What another daemon gets of the build's last step.
std::map<std::string, std::string> imported_files(const attributes& attrs) {
  test_daemon d;
  auto cache = import(d, attrs);
  auto found = find_copy(*cache);
  if (found.empty()) return {};
  auto ref = must(cache->load(cache->results(found.at(0)).at(0).id, *d.refs, {}));
  must(d.refs->files().materialize(ref, {}));
  return listing(*d.refs, ref);
}

std::string said(const attributes& attrs) {
  distribution::hosts hosts;
  auto made = make_cache_exporter("gha", attrs, {nullptr, &hosts});
  return made.ok() ? std::string() : made.error().message;
}

std::shared_ptr<gha_cache> cache_at(service& s, int version, const std::string& scopes = main_scope) {
  auto cache = std::make_shared<gha_cache>();
  cache->place->url = s.url();
  cache->place->version = version;
  cache->place->token = must(read_gha_token(s.token(scopes), std::time(nullptr)));
  return cache;
}

/// The texts of the entries under a key that counts up.
std::vector<std::string> numbers_of(service& s, const std::string& key) {
  std::vector<std::string> out;
  for (const auto& k : s.keys())
    if (auto at = k.find(" " + key + "#"); at != k.npos) out.push_back(k.substr(at + key.size() + 2));
  return out;
}

std::string text_at(object_store& objects, const std::string& key) {
  std::string text;
  must(objects.get_manifest(key, [&](std::string_view bytes) -> status {
    text += bytes;
    return {};
  }));
  return text;
}

}  // namespace

TEST_CASE("a cache in GitHub's Actions cache is read from it by another daemon") {
  int version = GENERATE(1, 2);
  INFO("version " << version);
  service s;
  finished_build a;
  auto attrs = s.attrs(version);
  must_export(a, attrs);
  auto keys = s.keys();
  REQUIRE(keys.size() == 5);  // four layers, the index
  for (std::size_t i = 0; i < 4; ++i) CHECK(keys[i].starts_with("refs/heads/main buildkit-blob-1-sha256:"));
  CHECK(keys[4] == "refs/heads/main " + main_index + "#1");
  CHECK(imported_files(attrs).at("tool") == "made");

  // Blobs that are there stay as they are; the index comes under the next number.
  must_export(a, attrs);
  CHECK(s.keys().size() == 6);
  CHECK(numbers_of(s, main_index) == std::vector<std::string>{"1", "2"});
  CHECK(s.state()["problems"].empty());
}

TEST_CASE("a scope of one's own keeps a cache apart from others") {
  service s;
  finished_build a;
  auto attrs = s.attrs(2);
  attrs["scope"] = "other";
  must_export(a, attrs);
  CHECK(imported_files(s.attrs(2)).empty());
  CHECK_FALSE(imported_files(attrs).empty());
}

TEST_CASE("a pull request reads the caches of its target, which does not see those of pull requests") {
  int version = GENERATE(1, 2);
  service s;
  finished_build a;
  SECTION("target to pull request") {
    must_export(a, s.attrs(version));
    CHECK(imported_files(s.attrs(version, pull_scope)).at("tool") == "made");
  }
  SECTION("pull request to target") {
    must_export(a, s.attrs(version, pull_scope));
    CHECK(numbers_of(s, pull_index) == std::vector<std::string>{"1"});
    CHECK(imported_files(s.attrs(version, pull_scope)).at("tool") == "made");
    CHECK(imported_files(s.attrs(version)).empty());
  }
}

TEST_CASE("a token that may write nothing is no error of an import, and one of an export that says so") {
  int version = GENERATE(1, 2);
  service s;
  finished_build a;
  must_export(a, s.attrs(version));
  auto attrs = s.attrs(version, "scope=refs/heads/main:1");
  CHECK(imported_files(attrs).at("tool") == "made");
  CHECK(export_failure(a, attrs).find("the token is read only") != std::string::npos);
}

TEST_CASE("a blob that somebody else is writing is left to him") {
  int version = GENERATE(1, 2);
  service s;
  distribution::hosts hosts;
  auto objects = open_gha_store(cache_at(s, version), hosts.transport(), {});
  s.reserve("refs/heads/main", "taken");
  CHECK_FALSE(must(objects->find("taken")));
  CHECK(objects->put("taken", text_body("mine")).ok());
  CHECK_FALSE(must(objects->find("taken")));
}

TEST_CASE("the next index waits for one that is being written, and goes past one that never comes") {
  int version = GENERATE(1, 2);
  service s;
  distribution::hosts hosts;
  auto cache = cache_at(s, version);
  cache->index_pause = std::chrono::milliseconds(20);
  auto objects = open_gha_store(cache, hosts.transport(), {});
  must(objects->put_manifest("index", "first"));
  s.reserve("refs/heads/main", "index#2");
  SECTION("it comes") {
    cache->index_patience = std::chrono::minutes(5);
    int reservations = s.count("POST", version == 1 ? "/caches" : "/CreateCacheEntry");
    std::jthread writer([&] {
      while (s.count("POST", version == 1 ? "/caches" : "/CreateCacheEntry") < reservations + 2) {
      }
      s.evict("index#2");
      s.reserve("refs/heads/main", "index#2", {{"data", "theirs"}});
    });
    must(objects->put_manifest("index", "mine"));
  }
  SECTION("it does not") {
    cache->index_patience = std::chrono::milliseconds(50);
    must(objects->put_manifest("index", "mine"));
  }
  CHECK(numbers_of(s, "index").back() == "3");
  CHECK(text_at(*objects, "index") == "mine");
}

TEST_CASE("the newest index is read, even where its number has more digits") {
  int version = GENERATE(1, 2);
  service s;
  distribution::hosts hosts;
  auto objects = open_gha_store(cache_at(s, version), hosts.transport(), {});
  for (int n = 1; n <= 11; ++n) must(objects->put_manifest("index", std::to_string(n)));
  must(objects->put_manifest("index-sig", "another"));
  CHECK(text_at(*objects, "index") == "11");
  CHECK(objects->get_manifest("inde", [](std::string_view) { return status(); }).error().code ==
        errc::not_found);
}

TEST_CASE("large entries go up in parts and come down from where they broke off") {
  int version = GENERATE(1, 2);
  service s;
  distribution::hosts hosts;
  auto objects = open_gha_store(cache_at(s, version), hosts.transport(), {});
  std::string text(configs::gha_chunk_size, 'x'), got;
  text += "tail";
  must(objects->put("big", text_body(text)));
  auto state = s.state();
  int parts = 0;
  for (const auto& r : state["log"]) parts += text_member(r, "method") == (version == 1 ? "PATCH" : "PUT");
  CHECK(parts == (version == 1 ? 2 : 3));  // two chunks; two blocks and their list
  s.set({{"cut_downloads", 1}});
  must(objects->get("big", 10, [&](std::string_view bytes) -> status {
    got += bytes;
    return {};
  }));
  CHECK(got == text.substr(10));
  s.set({{"entry_max", 1000}});
  auto refused = objects->put("too big", text_body(std::string(1001, 'x')));
  CHECK(refused.error().message.find("larger than 1000 bytes") != std::string::npos);
  CHECK(s.state()["problems"].empty());
}

TEST_CASE("a download URL that has expired is asked for anew, and tells nobody its signature") {
  service s;
  distribution::hosts hosts;
  auto objects = open_gha_store(cache_at(s, 2), hosts.transport(), {});
  must(objects->put("blob", text_body("text")));
  std::string got;
  auto take = [&](std::string_view bytes) -> status {
    got += bytes;
    return {};
  };
  s.set({{"expired_urls", 1}});
  must(objects->get("blob", 0, take));
  CHECK(got == "text");
  s.set({{"expired_urls", 2}});
  auto refused = objects->get("blob", 0, take);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().message.find("AuthenticationFailed") != std::string::npos);
  CHECK(refused.error().message.find("sig=") == std::string::npos);
}

TEST_CASE("too many requests are waited for as long as the service says, and no longer than the timeout") {
  using clock = std::chrono::steady_clock;
  int version = GENERATE(1, 2);
  service s;
  distribution::hosts hosts;
  auto cache = cache_at(s, version);
  auto objects = open_gha_store(cache, hosts.transport(), {});
  auto begin = clock::now();
  s.set({{"limited", 1}, {"retry_after", "1"}});
  must(objects->put("a", text_body("a")));
  CHECK(clock::now() - begin >= std::chrono::seconds(1));
  s.set({{"limited", 1}, {"retry_after", nullptr}});
  begin = clock::now();
  CHECK(must(objects->find("a")));
  CHECK(clock::now() - begin >= configs::gha_first_pause);

  s.set({{"limited", 1}, {"retry_after", "600"}});
  cache->place->patience = std::chrono::seconds(20);
  begin = clock::now();
  auto refused = objects->put("b", text_body("b"));
  CHECK(clock::now() - begin < std::chrono::seconds(15));  // at once
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code == errc::resource_exhausted);
  CHECK(refused.error().message.find("gha: reserving b: too many requests: the next one may be sent in ") ==
        0);
}

TEST_CASE("a wait for a service that has too much to do ends with the job") {
  service s;
  distribution::hosts hosts;
  std::stop_source stop;
  job_context job;
  job.stop = stop.get_token();
  auto objects = open_gha_store(cache_at(s, 1), hosts.transport(), job);
  s.set({{"limited", 1}, {"retry_after", "300"}});
  std::jthread user([&] {
    while (s.count("GET", "/cache") == 0) {
    }
    stop.request_stop();
  });
  CHECK(objects->find("a").error().code == errc::cancelled);
}

TEST_CASE("a busy blob store is asked again") {
  service s;
  distribution::hosts hosts;
  auto objects = open_gha_store(cache_at(s, 2), hosts.transport(), {});
  s.set({{"busy", 2}});
  must(objects->put("a", text_body("a")));
  CHECK(must(objects->find("a")));
}

TEST_CASE("with a repository and a token for GitHub one listing tells which blobs are there") {
  service s;
  finished_build a;
  auto attrs = s.attrs(2);
  must_export(a, attrs);
  for (int n = 0; n < 120; ++n)  // more than a page
    s.reserve("refs/heads/main", "buildkit-blob-1-older" + std::to_string(n), {{"data", "x"}});
  ::setenv("GITHUB_API_URL", s.url().c_str(), 1);
  attrs["repository"] = "owner/name";
  attrs["ghtoken"] = "ghp_reader";
  auto lookups = s.count("POST", "/GetCacheEntryDownloadURL");
  auto reservations = s.count("POST", "/CreateCacheEntry");
  must_export(a, attrs);
  CHECK(s.count("GET", "/repos/owner/name/actions/caches") == 2);
  CHECK(s.count("POST", "/GetCacheEntryDownloadURL") == lookups + 1);  // of the index
  CHECK(s.count("POST", "/CreateCacheEntry") == reservations + 1);

  // What is wrong with the listing is no harm to the export.
  attrs["ghtoken"] = "wrong";
  must_export(a, attrs);
  CHECK(s.count("POST", "/CreateCacheEntry") == reservations + 2);
  ::unsetenv("GITHUB_API_URL");
}

TEST_CASE("blobs that the service has dropped are a miss, and are written anew by the next export") {
  service s;
  finished_build a;
  auto attrs = s.attrs(1);
  must_export(a, attrs);
  s.evict("buildkit-blob");
  {
    test_daemon d;
    auto cache = import(d, attrs);
    auto ref = must(cache->load(cache->results(find_copy(*cache).at(0)).at(0).id, *d.refs, {}));
    CHECK(d.refs->files().materialize(ref, {}).error().code == errc::not_found);
  }
  must_export(a, attrs);
  CHECK(imported_files(attrs).at("tool") == "made");
}

TEST_CASE("attributes of GitHub caches are checked") {
  service s;
  const std::string failed = "failed to configure gha cache exporter: ";
  attributes good{{"url", "https://artifactcache.example/x/"}, {"token", s.token(main_scope)}};
  auto with = [&](const std::string& name, const std::string& value) {
    auto attrs = good;
    attrs[name] = value;
    return attrs;
  };
  CHECK(said(good).empty());
  CHECK(said({}) == failed + "token not set for github actions cache");
  CHECK(said({{"token", "x"}}) == failed + "url not set for github actions cache");
  CHECK(said({{"token", "x"}, {"url_v2", "https://x"}, {"version", "1"}}) ==
        failed + "url not set for github actions cache");
  CHECK(said(with("url", "nowhere")) == failed + "url \"nowhere\" of github actions cache is no http URL");
  CHECK(said(with("url", "file:///etc/passwd")).find("is no http URL") != std::string::npos);
  CHECK(said(with("version", "three")) == failed + "failed to parse api version \"three\": expected 1 or 2");
  CHECK(said(with("version", "3")) == failed + "failed to parse api version \"3\": expected 1 or 2");
  CHECK(said(with("timeout", "soon")).find(failed + "failed to parse timeout for github actions cache: ") ==
        0);
  CHECK(said(with("token", "x")) == failed + "invalid token: it is no JWT of three parts");
  CHECK(said(with("token", "a.*.c")) == failed + "invalid token: its claims are no base64");
  CHECK(said(with("token", "a." + base64_encode("{}") + ".c")).find("invalid token: ") != std::string::npos);
  CHECK(said(with("token", s.token(main_scope + "&life=-5"))).find(failed + "cache token expired at 2") == 0);
  CHECK(said(with("token", s.token(main_scope + "&begins=500")))
            .find(failed + "cache token is not good before 2") == 0);
}

TEST_CASE("a token that the service no longer takes is said to be that") {
  service s;
  distribution::hosts hosts;
  auto cache = cache_at(s, 2);
  cache->place->token.text = s.token(main_scope + "&life=-5");
  auto refused = open_gha_store(cache, hosts.transport(), {})->find("x");
  CHECK(refused.error().code == errc::unauthenticated);
  CHECK(refused.error().message == "gha: looking for x: the service answers 401: the token has expired");
}

namespace {

/// A daemon's signing program, which asks a Sigstore in this process, and the policy that takes what it
/// signs.
struct signer {
  test::temp_dir dir;
  test::little_sigstore sigstore;
  configs::gha_cache_config config;

  signer() {
    auto index = (dir / "index").string(), bundle = (dir / "bundle").string();
    ::mkfifo(index.c_str(), 0600);
    ::mkfifo(bundle.c_str(), 0600);
    std::ofstream(dir / "root.json") << json_text(sigstore.trusted_root());
    config.sign_command = {"/bin/sh", "-c", "cat >" + index + " && cat " + bundle};
    config.verify = true;
    config.times_min = 2;
    config.log_times_min = 1;
    config.certificate = {{"subjectAlternativeName", "https://github.com/some/repo/*"}, {"issuer", "*"}};
    config.trusted_root = (dir / "root.json").string();
  }
  /// Signs the next index.
  std::jthread once() {
    return std::jthread([this] {
      std::ifstream in(dir / "index");
      std::string text{std::istreambuf_iterator<char>(in), {}};
      std::ofstream(dir / "bundle") << json_text(sigstore.sign(text));
    });
  }
  std::string import_failure(const attributes& attrs) const {
    test_daemon d;
    d.resources.gha_cache = &config;
    auto done = must(make_cache_importer("gha", attrs, d.resources))->load({});
    return done.ok() ? "" : done.error().message;
  }
};

}  // namespace

TEST_CASE("a signed cache is read where signatures are wanted, and is apart from others") {
  service s;
  signer who;
  finished_build a;
  a.resources.gha_cache = &who.config;
  auto attrs = s.attrs(2);
  {
    auto signing = who.once();
    must_export(a, attrs);
  }
  auto keys = s.keys();
  REQUIRE(keys.size() == 6);  // four layers, the index, its signature
  CHECK(numbers_of(s, main_index + "-sig") == std::vector<std::string>{"1"});
  CHECK(std::count_if(keys.begin(), keys.end(), [](const auto& k) { return k.ends_with("-sig"); }) == 1);
  CHECK(who.import_failure(attrs).empty());
  test_daemon b;
  b.resources.gha_cache = &who.config;
  auto cache = must(must(make_cache_importer("gha", attrs, b.resources))->load({}));
  CHECK_FALSE(find_copy(*cache).empty());
  CHECK(imported_files(attrs).empty());  // who wants no signatures reads another cache

  // The same index again: its signature is there.
  {
    auto signing = who.once();
    must_export(a, attrs);
  }
  CHECK(numbers_of(s, main_index + "-sig") == std::vector<std::string>{"1", "2"});
}

TEST_CASE("an index whose signature is not as wanted is refused") {
  service s;
  signer who;
  finished_build a;
  a.resources.gha_cache = &who.config;
  auto attrs = s.attrs(1);
  {
    auto signing = who.once();
    must_export(a, attrs);
  }
  const std::string failed = "signature verification failed: ";
  SECTION("by somebody else") {
    who.config.certificate["issuer"] = "https://accounts.example";
    CHECK(who.import_failure(attrs) == failed + "certificate field \"issuer\" does not match policy (\"" +
                                           test::little_sigstore::issuer +
                                           "\" != \"https://accounts.example\")");
    who.config.certificate = {
        {"runnerEnvironment", "github-hosted"}};  // of which the certificate says nothing
    CHECK(who.import_failure(attrs).find(failed + "certificate field \"runnerEnvironment\"") == 0);
  }
  SECTION("with too few witnesses") {
    who.config.times_min = 3;
    CHECK(who.import_failure(attrs) == failed + "not enough timestamp authorities: have 2, need 3");
    who.config.times_min = 0;
    who.config.log_times_min = 2;
    CHECK(who.import_failure(attrs) == failed + "not enough tlog authorities: have 1, need 2");
  }
  SECTION("by an instance that is not trusted") {
    std::ofstream(who.dir / "root.json") << json_text(test::little_sigstore().trusted_root());
    CHECK(who.import_failure(attrs) == failed + "the signature is in no transparency log that is trusted");
  }
  SECTION("none, or of another index") {
    std::string key;
    for (const auto& k : s.keys())
      if (k.ends_with("-sig")) key = k.substr(k.find(' ') + 1);
    s.evict(key);
    CHECK(who.import_failure(attrs) == "missing signature for github actions cache");
    s.reserve("refs/heads/main", key, {{"data", json_text(who.sigstore.sign("another"))}});
    CHECK(who.import_failure(attrs).find(failed) == 0);
  }
  SECTION("nobody to trust") {
    who.config.trusted_root = (who.dir / "none.json").string();
    CHECK(who.import_failure(attrs).find("no trusted root of Sigstore for github actions cache: ") == 0);
  }
}

TEST_CASE("a signature that cannot be made, or that nobody would take, leaves no index behind") {
  service s;
  signer who;
  finished_build a;
  a.resources.gha_cache = &who.config;
  auto attrs = s.attrs(2);
  who.config.sign_command = {"/bin/sh", "-c", "echo no key here >&2; exit 3"};
  CHECK(export_failure(a, attrs).find("signing command /bin/sh ended with code 3: no key here") !=
        std::string::npos);
  who.config.sign_command = {"/nowhere/cosign"};
  CHECK(export_failure(a, attrs).find("/nowhere/cosign is not installed") != std::string::npos);
  who.config.sign_command = {"cat"};
  CHECK_FALSE(export_failure(a, attrs).empty());
  CHECK(numbers_of(s, main_index + "-sig").empty());
}

TEST_CASE("patterns of certificate fields have a star at either end") {
  CHECK(matches_pattern("*", ""));
  CHECK(matches_pattern("a", "a"));
  CHECK_FALSE(matches_pattern("a", "ab"));
  CHECK(matches_pattern("a*", "ab"));
  CHECK_FALSE(matches_pattern("a*", "ba"));
  CHECK(matches_pattern("*b", "ab"));
  CHECK_FALSE(matches_pattern("*b", "ba"));
  CHECK(matches_pattern("*b*", "abc"));
  CHECK_FALSE(matches_pattern("*d*", "abc"));
}
