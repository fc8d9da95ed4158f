// Caches in Azure Blob Storage: the signature against Microsoft's published example, and the back end against
// a container in memory.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>

#include "base/base64.hpp"
#include "configs/remote_cache.hpp"
#include "exporters/cache/azure_signature.hpp"
#include "exporters/cache/http_object_store.hpp"
#include "exporters/cache/request_text.hpp"
#include "tests/exporters/cache_fixture.hpp"
#include "tests/support/environment_of.hpp"
#include "tests/support/http_server.hpp"

using namespace kiln;
using namespace kiln::exporters;
using namespace kiln::exporters::testing;
using kiln::test::environment_of;
using kiln::test::http_answer;
using kiln::test::http_request;

namespace {

const std::string secret = "c2VjcmV0IG9mIHRoZSBhY2NvdW50";

/// The key every storage emulator has.
const std::string emulator_key =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

std::map<std::string, std::string> fields_of(const std::string& query) {
  std::map<std::string, std::string> out;
  for (std::size_t at = 0; at < query.size();) {
    auto end = std::min(query.find('&', at), query.size()), equals = query.find('=', at);
    auto value = query.substr(equals + 1, end - equals - 1);
    for (std::size_t p; (p = value.find('%')) != std::string::npos;)
      value.replace(p, 3, 1, static_cast<char>(std::stoi(value.substr(p + 1, 2), nullptr, 16)));
    out[query.substr(at, equals - at)] = value;
    at = end + 1;
  }
  return out;
}

http_answer refused(int status, const std::string& code) {
  return {status,
          {{"x-ms-error-code", code}},
          "<Error><Code>" + code + "</Code><Message>because of " + code + ".\nRequestId:1</Message></Error>"};
}

/// An account "acc" with addresses as storage emulators have them, and at most one container, "box". Requests
/// are checked against the signature of what arrived.
struct account {
  std::mutex mutex;
  bool exists = false;
  std::map<std::string, std::string> blobs, blocks;
  bool lose_blocks = false;
  std::string bearer;  // accepted instead of a signature
  std::string shown;   // of an application, instead of a secret
  kiln::test::http_server server{[this](const http_request& r) { return answer(r); }};

  http_answer answer(const http_request& r) {
    std::lock_guard lock(mutex);
    if (r.path == "/tenant/oauth2/v2.0/token") return token(r);
    if (r.path == "/service" || r.path == "/arc" || r.path == "/metadata/identity/oauth2/token")
      return machine(r);
    azure_request signed_part{r.method, r.path, fields_of(r.query), r.headers};
    auto authorization = r.header("authorization");
    if (authorization != azure_authorization(signed_part, "acc", *base64_decode(secret)) &&
        (bearer.empty() || authorization != "Bearer " + bearer))
      return refused(403, "AuthenticationFailed");
    if (!r.path.starts_with("/acc/box")) return refused(404, "ResourceNotFound");
    if (r.path == "/acc/box") {
      if (r.method == "PUT") exists = true;
      return exists ? http_answer{r.method == "PUT" ? 201 : 200, {}, ""} : refused(404, "ContainerNotFound");
    }
    if (!exists) return refused(404, "ContainerNotFound");
    auto key = r.path.substr(9);
    auto query = fields_of(r.query);
    if (r.method == "PUT" && query["comp"] == "block") {
      if (!lose_blocks) blocks[query["blockid"]] = r.body;
      return {201, {}, ""};
    }
    if (r.method == "PUT" && query["comp"] == "blocklist") {
      if (blocks.empty()) return refused(400, "InvalidBlockList");
      auto& whole = blobs[key] = "";
      for (auto at = r.body.find("<Latest>"); at != std::string::npos; at = r.body.find("<Latest>", at + 1))
        whole += blocks.at(xml_text(r.body.substr(at), "Latest"));
      blocks.clear();
      return {201, {}, ""};
    }
    if (r.method == "PUT") {
      if (r.header("x-ms-blob-type") != "BlockBlob") return refused(400, "MissingRequiredHeader");
      blobs[key] = r.body;
      return {201, {}, ""};
    }
    auto found = blobs.find(key);
    if (found == blobs.end()) return refused(404, "BlobNotFound");
    return {200, {}, found->second};
  }
  http_answer token(const http_request& r) {
    auto form = fields_of(r.body);
    shown = form["client_assertion"];
    bool known = form["client_id"] == "app" && form["grant_type"] == "client_credentials" &&
                 (form["client_secret"] == "p&ss" || shown == "vouched" || shown.starts_with("ey"));
    if (!known) return {401, {}, R"({"error":"invalid_client","error_description":"who are you"})"};
    return {200, {}, R"({"access_token":")" + bearer + R"(","expires_in":3600})"};
  }
  /// Tokens of the machine: App Service, Azure Arc, the metadata service.
  http_answer machine(const http_request& r) {
    auto query = fields_of(r.query);
    auto given = R"({"access_token":")" + bearer + R"(","expires_on":")" +
                 std::to_string(std::time(nullptr) + 3'600) + "\"}";
    if (query["resource"] != "https://storage.azure.com/") return {400, {}, ""};
    if (query["client_id"] == "stranger")
      return {400, {}, R"({"error":"invalid_request","error_description":"Identity not found"})"};
    if (r.path == "/service")
      return r.header("x-identity-header") == "h" ? http_answer{200, {}, given} : http_answer{401, {}, ""};
    if (r.header("metadata") != "true") return {400, {}, ""};
    if (r.path == "/arc") return {401, {{"WWW-Authenticate", "Basic realm=/etc/shadow"}}, ""};
    return {200, {}, given};
  }
  attributes attrs() {
    return {{"account_url", server.url() + "/acc"},
            {"account_name", "acc"},
            {"secret_access_key", secret},
            {"container", "box"},
            {"mode", "max"},
            {"prefix", "team/"}};
  }
};

void must_export(finished_build& b, const attributes& attrs) {
  auto exporter = must(make_cache_exporter("azblob", attrs, b.resources));
  CHECK(exporter->name() == "exporting cache to Azure Blob Storage");
  CHECK(must(export_cache(*exporter, b.scope, b.resources, {})).empty());
}

std::string import_error(const attributes& attrs) {
  test_daemon d;
  auto loaded = must(make_cache_importer("azblob", attrs, d.resources))->load({});
  return loaded.ok() ? std::string() : loaded.error().message;
}

}  // namespace

TEST_CASE("requests are signed as Azure's examples are") {
  azure_request metadata{"GET",
                         "/mycontainer",
                         {{"comp", "metadata"}, {"restype", "container"}, {"timeout", "20"}},
                         {{"x-ms-version", "2015-02-21"}, {"x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT"}}};
  CHECK(azure_string_to_sign(metadata, "myaccount") ==
        "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n"
        "/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20");
  // Made with another program.
  CHECK(azure_authorization(metadata, "myaccount", *base64_decode(emulator_key)) ==
        "SharedKey myaccount:1u9lui2jDxj0+fpbHjQ5m5NnastJRSYM+PSmfi8TXx4=");
  azure_request put{
      "PUT", "/box/a%20b", {}, {{"content-length", "11"}, {"range", "bytes=1-"}, {"host", "h"}}};
  CHECK(azure_string_to_sign(put, "acc") == "PUT\n\n\n11\n\n\n\n\n\n\n\nbytes=1-\n/acc/box/a%20b");
  put.headers["content-length"] = "0";
  CHECK(azure_string_to_sign(put, "acc") == "PUT\n\n\n\n\n\n\n\n\n\n\nbytes=1-\n/acc/box/a%20b");
}

TEST_CASE("a cache written to a container is read from it by another daemon") {
  account acc;
  finished_build a;
  auto attrs = acc.attrs();
  attrs["name"] = "main;latest";
  must_export(a, attrs);
  CHECK(acc.blobs.size() == 6);  // four layers, two names
  CHECK(acc.blobs.contains("team/manifests/main"));
  CHECK(acc.blobs.at("team/manifests/main") == acc.blobs.at("team/manifests/latest"));
  CHECK(acc.server.count("PUT", "/acc/box/team/blobs/sha256%3A") == 4);
  CHECK(acc.server.count("PUT", "/acc/box") == 7);  // the container was made

  // Every name is read, and what nobody wrote is as good as empty.
  attrs["name"] = "none;main";
  test_daemon b;
  auto cache = must(must(make_cache_importer("azblob", attrs, b.resources))->load({}));
  auto results = cache->results(find_copy(*cache).at(0));
  auto ref = must(cache->load(results.at(0).id, *b.refs, {}));
  must(b.refs->files().materialize(ref, {}));
  CHECK(listing(*b.refs, ref).at("tool") == "made");

  must_export(a, attrs);
  CHECK(acc.server.count("PUT", "/acc/box") == 9);  // layers that are there are not written again
}

TEST_CASE("a large blob goes in blocks, and it is no failure that another writer was faster") {
  account acc;
  distribution::hosts hosts;
  auto objects = must(must(azblob_settings(acc.attrs(), {nullptr, &hosts})).open({}));
  std::string text(configs::azblob_block_size, 'x');
  text += "tail";
  must(objects->put("big", text_body(text)));
  CHECK(acc.server.count("PUT", "/acc/box/big") == 3);
  CHECK((acc.blobs["big"] == text));
  std::string tail;
  must(objects->get("big", configs::azblob_block_size, [&](std::string_view bytes) -> status {
    tail += bytes;
    return {};
  }));
  CHECK(tail == "tail");

  acc.lose_blocks = true;
  must(objects->put("big", text_body(text)));
  CHECK(objects->put("other", text_body(text)).error().message ==
        "azblob: PUT other in container box of account acc: InvalidBlockList: because of InvalidBlockList.");
}

TEST_CASE("a refusal names the request, the container, the account and the service's reason") {
  account acc;
  auto attrs = acc.attrs();
  attrs["secret_access_key"] = "c3RyYW5nZXI=";
  CHECK(import_error(attrs) == "azblob: HEAD in container box of account acc: AuthenticationFailed");
  CHECK(import_error(acc.attrs()).empty());
  acc.blobs["team/manifests/buildkit"] = "nonsense";
  CHECK(import_error(acc.attrs()).starts_with("invalid cache config: not JSON: wrong at "));
  acc.blobs.clear();
  test_daemon d;
  auto importer = must(make_cache_importer("azblob", acc.attrs(), d.resources));
  must(importer->load({}));
  acc.exists = false;  // after it was seen
  CHECK(importer->load({}).error().message ==
        "azblob: GET team/manifests/buildkit in container box of account acc: ContainerNotFound: because of "
        "ContainerNotFound.");
}

TEST_CASE(
    "without a key the application of the environment asks, with a secret or with what vouches for it") {
  account acc;
  acc.bearer = "token";
  auto attrs = acc.attrs();
  attrs.erase("secret_access_key");
  std::map<std::string, std::string> who{{"AZURE_AUTHORITY_HOST", acc.server.url() + "/"},
                                         {"AZURE_TENANT_ID", "tenant"},
                                         {"AZURE_CLIENT_ID", "app"},
                                         {"BUILDKIT_AZURE_STORAGE_ACCOUNT_URL", acc.server.url()}};
  {
    auto with = who;
    with["AZURE_CLIENT_SECRET"] = "p&ss";
    environment_of e(with);
    CHECK(import_error(attrs).empty());
    CHECK(acc.server.count("POST", "/token") == 1);  // for several requests
  }
  {
    store::testing::temporary_root root;
    auto file = root.path() / "token";
    std::ofstream(file) << "vouched\n";
    auto with = who;
    with["AZURE_FEDERATED_TOKEN_FILE"] = file;
    environment_of e(with);
    CHECK(import_error(attrs).empty());
  }
  {
    auto with = who;
    with["AZURE_CLIENT_SECRET"] = "wrong";
    environment_of e(with);
    CHECK(import_error(attrs) == "azure: no token for application app of tenant tenant from " +
                                     acc.server.url() + ": 401 invalid_client: who are you");
  }
}

TEST_CASE("an application shows that it has its certificate's key") {
  account acc;
  acc.bearer = "token";
  auto attrs = acc.attrs();
  attrs.erase("secret_access_key");
  store::testing::temporary_root root;
  auto pem = (root.path() / "app.pem").string(), bag = (root.path() / "app.pfx").string();
  auto run = [](const std::string& command) {
    REQUIRE(std::system((command + " 2>/dev/null").c_str()) == 0);
  };
  run("openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=app -days 2 -keyout " + pem + ".key -out " + pem +
      ".crt");
  run("cat " + pem + ".crt " + pem + ".key >" + pem);
  run("openssl pkcs12 -export -passout pass:word -in " + pem + ".crt -inkey " + pem + ".key -out " + bag);
  std::map<std::string, std::string> who{{"AZURE_AUTHORITY_HOST", acc.server.url()},
                                         {"AZURE_TENANT_ID", "tenant"},
                                         {"AZURE_CLIENT_ID", "app"},
                                         {"BUILDKIT_AZURE_STORAGE_ACCOUNT_URL", acc.server.url()}};
  for (const auto& [file, password] : std::map<std::string, std::string>{{pem, ""}, {bag, "word"}}) {
    INFO(file);
    auto with = who;
    with["AZURE_CLIENT_CERTIFICATE_PATH"] = file;
    with["AZURE_CLIENT_CERTIFICATE_PASSWORD"] = password;
    environment_of e(with);
    CHECK(import_error(attrs).empty());
    // OpenSSL's own program checks what was signed.
    auto first = acc.shown.find('.'), last = acc.shown.rfind('.');
    REQUIRE(first < last);
    auto raw = [](std::string text) {
      for (char& c : text) c = c == '-' ? '+' : c == '_' ? '/' : c;
      text.resize((text.size() + 3) / 4 * 4, '=');
      return *base64_decode(text);
    };
    std::ofstream(root.path() / "signed") << acc.shown.substr(0, last);
    std::ofstream(root.path() / "signature") << raw(acc.shown.substr(last + 1));
    run("openssl x509 -in " + pem + ".crt -pubkey -noout >" + pem + ".pub");
    run("openssl dgst -sha256 -verify " + pem + ".pub -signature " + (root.path() / "signature").string() +
        " " + (root.path() / "signed").string() + " >/dev/null");
    auto claims = raw(acc.shown.substr(first + 1, last - first - 1));
    CHECK(claims.find("\"aud\":\"" + acc.server.url() + "/tenant/oauth2/v2.0/token\"") != std::string::npos);
    CHECK(claims.find("\"sub\":\"app\"") != std::string::npos);
  }
  auto with = who;
  with["AZURE_CLIENT_CERTIFICATE_PATH"] = bag;
  with["AZURE_CLIENT_CERTIFICATE_PASSWORD"] = "other";
  environment_of e(with);
  CHECK(import_error(attrs) == "azure: AZURE_CLIENT_CERTIFICATE_PATH " + bag +
                                   " has no RSA key with its certificate, or another password");
}

TEST_CASE("without an application the machine's identity is asked, then whoever has logged in with the CLI") {
  account acc;
  acc.bearer = "token";
  auto attrs = acc.attrs();
  attrs.erase("secret_access_key");
  store::testing::temporary_root root;
  environment_of base{{"AZURE_POD_IDENTITY_AUTHORITY_HOST", acc.server.url() + "/"},
                      {"BUILDKIT_AZURE_STORAGE_ACCOUNT_URL", acc.server.url()},
                      {"AZURE_TENANT_ID", ""},
                      {"AZURE_CLIENT_ID", ""}};
  CHECK(import_error(attrs).empty());
  CHECK(acc.server.count("GET", "/metadata/identity") == 1);
  {
    environment_of e{{"IDENTITY_ENDPOINT", acc.server.url() + "/service"}, {"IDENTITY_HEADER", "h"}};
    CHECK(import_error(attrs).empty());
    CHECK(acc.server.count("GET", "/service") == 1);
  }
  // No program of this machine's is asked from here on.
  environment_of only{{"PATH", root.path().string()}};
  {
    environment_of e{{"IDENTITY_ENDPOINT", acc.server.url() + "/arc"}, {"IMDS_ENDPOINT", "x"}};
    CHECK(import_error(attrs).find("names no key of its own: \"Basic realm=/etc/shadow\"") !=
          std::string::npos);
  }
  environment_of user{{"AZURE_CLIENT_ID", "stranger"}};
  auto said = import_error(attrs);
  CHECK(said.starts_with("no credentials for azblob cache: set secret_access_key, or AZURE_TENANT_ID and "));
  CHECK(said.find("400 invalid_request: Identity not found") != std::string::npos);
  CHECK(said.find("Azure CLI: ") != std::string::npos);
  auto az = root.path() / "az";
  std::ofstream(az) << "#!/bin/sh\necho '{\"accessToken\":\"token\",\"expires_on\":4102444800}'\n";
  std::filesystem::permissions(az, std::filesystem::perms(0755));
  CHECK(import_error(attrs).empty());
}

TEST_CASE(
    "the daemon's own token goes to Azure and to the account of its environment, and to no host a client "
    "names") {
  account acc;
  acc.bearer = "token";
  auto attrs = acc.attrs();
  attrs.erase("secret_access_key");
  environment_of e{{"AZURE_AUTHORITY_HOST", acc.server.url() + "/"},
                   {"AZURE_TENANT_ID", "tenant"},
                   {"AZURE_CLIENT_ID", "app"},
                   {"AZURE_CLIENT_SECRET", "p&ss"}};
  distribution::hosts hosts;
  auto said = [&](const std::string& url) {
    attrs["account_url"] = url;
    auto made = make_cache_exporter("azblob", attrs, {nullptr, &hosts});
    return made.ok() ? std::string() : made.error().message;
  };
  for (auto url : {acc.server.url() + "/acc", std::string("https://acc.blob.core.windows.net.evil.example"),
                   std::string("https://evil.example/.blob.core.windows.net"),
                   std::string("http://acc.blob.core.windows.net"),
                   std::string("https://acc.blob.core.windows.net@evil.example"),
                   std::string("https://acc.blob.core.windows.net:8443")}) {
    INFO(url);
    CHECK(said(url).find("is not Azure's") != std::string::npos);
  }
  CHECK(said("https://acc.blob.core.windows.net").empty());
  CHECK(acc.server.count("POST", "/token") == 0);
}

TEST_CASE("attributes of Azure caches are checked") {
  distribution::hosts hosts;
  auto said = [&](const attributes& attrs) {
    auto made = make_cache_exporter("azblob", attrs, {nullptr, &hosts});
    return made.ok() ? std::string() : made.error().message;
  };
  const std::string failed = "failed to configure azblob cache exporter: ";
  CHECK(said({}) == failed + "account_url ($BUILDKIT_AZURE_STORAGE_ACCOUNT_URL) not set for azblob cache");
  CHECK(said({{"account_url", "nowhere"}}) ==
        failed + "account_url \"nowhere\" is no URL of a storage account");
  attributes good{{"account_url", "https://acc.blob.example"}, {"secret_access_key", secret}};
  CHECK(said(good).empty());
  auto bad = good;
  bad["secret_access_key"] = "*";
  CHECK(said(bad) == failed + "secret_access_key for azblob cache is no base64");
}

// By hand: azurite-blob --location DIR & KILN_AZURITE=http://127.0.0.1:10000/devstoreaccount1 test_exporters
// [azurite]
TEST_CASE("an Azurite keeps caches and large blobs", "[.azurite]") {
  const char* url = std::getenv("KILN_AZURITE");
  REQUIRE(url != nullptr);
  attributes attrs{{"account_url", url},
                   {"account_name", "devstoreaccount1"},
                   {"secret_access_key", emulator_key},
                   {"container", "kiln-" + new_id()},
                   {"prefix", "team/a b+c"},
                   {"mode", "max"}};
  finished_build a;
  must_export(a, attrs);
  must_export(a, attrs);
  test_daemon b;
  auto cache = must(must(make_cache_importer("azblob", attrs, b.resources))->load({}));
  auto ref = must(cache->load(cache->results(find_copy(*cache).at(0)).at(0).id, *b.refs, {}));
  must(b.refs->files().materialize(ref, {}));
  CHECK(listing(*b.refs, ref).at("tool") == "made");

  auto objects = must(must(azblob_settings(attrs, a.resources)).open({}));
  std::string text(configs::azblob_block_size, 'x'), tail;
  text += "tail";
  must(objects->put("big", text_body(text)));
  CHECK(must(objects->find("big"))->size == static_cast<std::int64_t>(text.size()));
  must(objects->get("big", configs::azblob_block_size, [&](std::string_view bytes) -> status {
    tail += bytes;
    return {};
  }));
  CHECK(tail == "tail");
  CHECK_FALSE(must(objects->find("small")));
}
