// Caches in S3: the signature against AWS's published examples, and the back end against a bucket in memory.
#include <catch2/catch.hpp>

#include <ctime>

#include "configs/remote_cache.hpp"
#include "exporters/cache/aws_signature.hpp"
#include "exporters/cache/http_object_store.hpp"
#include "exporters/cache/object_store.hpp"
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

const aws_credentials example{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ""};
constexpr std::int64_t example_time = 1'369'353'600;  // 2013-05-24T00:00:00Z

std::string signature(const aws_request& r) {
  auto text = aws_signed_headers(r, example, "us-east-1", "s3", example_time).at("authorization");
  return text.substr(text.find("Signature=") + 10);
}

const std::string nothing = std::string(sha256("").hex());

/// A bucket with path-style addresses. It checks that requests are signed and payloads are what was signed.
struct bucket {
  std::mutex mutex;
  std::map<std::string, std::string> objects;
  std::map<std::string, std::time_t> modified;
  std::vector<std::string> problems;
  int fail_next = 0;  // answers 503 so often
  std::map<int, std::string> parts;
  int refuse_part = 0;
  kiln::test::http_server server{[this](const http_request& r) { return answer(r); }};

  http_answer answer(const http_request& r) {
    std::lock_guard lock(mutex);
    if (fail_next > 0) {
      --fail_next;
      return {503, {}, "<Error><Code>SlowDown</Code><Message>later</Message></Error>"};
    }
    auto authorization = r.header("authorization");
    if (authorization.find("AWS4-HMAC-SHA256 Credential=key/") != 0 ||
        authorization.find("/eu-test-1/s3/aws4_request") == std::string::npos)
      return {403, {}, "<Error><Code>AccessDenied</Code><Message>who are you</Message></Error>"};
    const std::string root = "/pail/";
    if (!r.path.starts_with(root)) return {404, {}, "<Error><Code>NoSuchBucket</Code></Error>"};
    auto key = r.path.substr(root.size());
    auto hash = r.header("x-amz-content-sha256");
    if (hash != "UNSIGNED-PAYLOAD" && hash != std::string(sha256(r.body).hex()))
      problems.push_back("payload of " + key);
    if (r.method == "PUT" && !r.header("x-amz-copy-source").empty()) {
      if (r.header("x-amz-copy-source") != "pail/" + key) problems.push_back("copy of " + key);
      modified[key] = std::time(nullptr);
      return {200, {}, "<CopyObjectResult/>"};
    }
    if (r.query.find("upload") != std::string::npos) return part_of_upload(r, key);
    if (r.method == "PUT") {
      objects[key] = r.body;
      modified[key] = std::time(nullptr);
      return {200, {{"ETag", "\"x\""}}, ""};
    }
    auto found = objects.find(key);
    if (found == objects.end())
      return {404, {}, "<Error><Code>NoSuchKey</Code><Message>none</Message></Error>"};
    char date[64];
    std::tm parts{};
    ::gmtime_r(&modified[key], &parts);
    std::strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    if (r.method == "HEAD") return {200, {{"Last-Modified", date}}, ""};
    return {200, {{"Last-Modified", date}}, found->second};
  }
  http_answer part_of_upload(const http_request& r, const std::string& key) {
    if (r.query == "uploads=") return {200, {}, "<R><UploadId>up</UploadId></R>"};
    if (r.method == "DELETE") {
      parts.clear();
      return {204, {}, ""};
    }
    if (r.method == "PUT") {
      auto number = std::stoi(r.query.substr(r.query.find("partNumber=") + 11));
      if (number == refuse_part)
        return {400, {}, "<Error><Code>BadDigest</Code><Message>odd</Message></Error>"};
      parts[number] = r.body;
      return {200, {{"ETag", "\"" + std::to_string(number) + "\""}}, ""};
    }
    std::string list = "<CompleteMultipartUpload>", whole;
    for (const auto& [number, body] : parts) {
      auto n = std::to_string(number);
      list += "<Part><PartNumber>" + n + "</PartNumber><ETag>\"" + n + "\"</ETag></Part>";
      whole += body;
    }
    if (r.body != list + "</CompleteMultipartUpload>")
      return {400, {}, "<Error><Code>InvalidPart</Code></Error>"};
    objects[key] = whole;
    parts.clear();
    return {200, {}, "<CompleteMultipartUploadResult/>"};
  }
  attributes attrs() {
    return {{"bucket", "pail"},
            {"region", "eu-test-1"},
            {"endpoint_url", server.url()},
            {"use_path_style", "true"},
            {"access_key_id", "key"},
            {"secret_access_key", "secret"},
            {"mode", "max"},
            {"prefix", "team/"}};
  }
  int puts() { return server.count("PUT", "/pail/"); }
};

void must_export(finished_build& b, const attributes& attrs) {
  auto exporter = must(make_cache_exporter("s3", attrs, b.resources));
  CHECK(exporter->name() == "exporting cache to Amazon S3");
  CHECK(must(export_cache(*exporter, b.scope, b.resources, {})).empty());
}

}  // namespace

TEST_CASE("requests are signed as AWS's examples are") {
  aws_request get{"GET", "examplebucket.s3.amazonaws.com", "/test.txt",
                  {},    {{"range", "bytes=0-9"}},         nothing};
  CHECK(signature(get) == "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
  aws_request put{"PUT",
                  "examplebucket.s3.amazonaws.com",
                  encoded_path("/test$file.text"),
                  {},
                  {{"date", "Fri, 24 May 2013 00:00:00 GMT"}, {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
                  "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"};
  CHECK(signature(put) == "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
  aws_request lifecycle{"GET", "examplebucket.s3.amazonaws.com", "/", {{"lifecycle", ""}}, {}, nothing};
  CHECK(signature(lifecycle) == "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
  aws_request list{"GET",  "examplebucket.s3.amazonaws.com", "/", {{"max-keys", "2"}, {"prefix", "J"}}, {},
                   nothing};
  CHECK(signature(list) == "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

TEST_CASE("a cache written to a bucket is read from it by another daemon") {
  bucket pail;
  finished_build a;
  auto attrs = pail.attrs();
  attrs["name"] = "main;latest";
  must_export(a, attrs);
  CHECK(pail.problems.empty());
  CHECK(pail.objects.size() == 6);  // four layers, two names
  CHECK(pail.objects.contains("team/manifests/main"));
  CHECK(pail.objects.at("team/manifests/main") == pail.objects.at("team/manifests/latest"));
  CHECK(pail.objects.at("team/manifests/main")
            .find("\"annotations\":{\"mediaType\":\"application/vnd.oci.image.layer") != std::string::npos);

  test_daemon b;
  auto cache = must(must(make_cache_importer("s3", attrs, b.resources))->load({}));
  auto results = cache->results(find_copy(*cache).at(0));
  auto ref = must(cache->load(results.at(0).id, *b.refs, {}));
  must(b.refs->files().materialize(ref, {}));
  CHECK(listing(*b.refs, ref).at("tool") == "made");

  // What is there is not written again, unless it has become old.
  auto before = pail.puts();
  must_export(a, attrs);
  CHECK(pail.puts() == before + 2);
  attrs["touch_refresh"] = "0s";
  for (auto& [key, time] : pail.modified) time -= 10;
  must_export(a, attrs);
  CHECK(pail.puts() == before + 2 + 4 + 2);
  CHECK(pail.problems.empty());
}

TEST_CASE("a bucket without that cache imports as an empty one, and a refusal is an error that says why") {
  bucket pail;
  test_daemon d;
  auto cache = must(must(make_cache_importer("s3", pail.attrs(), d.resources))->load({}));
  CHECK(cache->graph().size() == 0);
  auto attrs = pail.attrs();
  attrs["access_key_id"] = "stranger";
  auto refused = must(make_cache_importer("s3", attrs, d.resources))->load({});
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().message == "s3: GET team/manifests/buildkit: AccessDenied: who are you");
}

TEST_CASE("a busy bucket is asked again, and not for ever") {
  bucket pail;
  test_daemon d;
  pail.fail_next = 2;
  CHECK(must(make_cache_importer("s3", pail.attrs(), d.resources))->load({}).ok());
  pail.fail_next = 1000;
  auto attrs = pail.attrs();
  attrs["retry_max_attempts"] = "1";
  CHECK_FALSE(must(make_cache_importer("s3", attrs, d.resources))->load({}).ok());
  CHECK(pail.fail_next == 999);
}

TEST_CASE("a large blob goes up in parts, several at a time, and nothing of it stays when one is refused") {
  bucket pail;
  test_daemon d;
  auto objects = must(must(s3_settings(pail.attrs(), d.resources)).open({}));
  std::string text(2 * configs::s3_part_size, 'x');
  for (std::size_t i = 0; i < text.size(); i += 4'096) text[i] = static_cast<char>(i / 4'096);
  text += "tail";
  must(objects->put("big", text_body(text)));
  CHECK((pail.objects["big"] == text));
  CHECK(pail.server.count("PUT", "/pail/big") == 3);
  pail.refuse_part = 2;
  auto refused = objects->put("other", text_body(text));
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().message == "s3: PUT other: BadDigest: odd");
  CHECK(pail.parts.empty());
  CHECK_FALSE(pail.objects.contains("other"));
}

TEST_CASE("a bucket that says slow down in adaptive mode is waited for") {
  bucket pail;
  test_daemon d;
  auto attrs = pail.attrs();
  attrs["retry_mode"] = "adaptive";
  attrs["retry_max_attempts"] = "5";
  pail.fail_next = 3;
  CHECK(must(make_cache_importer("s3", attrs, d.resources))->load({}).ok());
  attrs.erase("retry_max_attempts");
  environment_of e{{"AWS_MAX_ATTEMPTS", "1"}};
  pail.fail_next = 2;
  CHECK_FALSE(must(make_cache_importer("s3", attrs, d.resources))->load({}).ok());
  CHECK(pail.fail_next == 1);
}

TEST_CASE("a cache config that is not what it should be is refused") {
  bucket pail;
  test_daemon d;
  auto import_error = [&](const std::string& text) {
    pail.objects["team/manifests/buildkit"] = text;
    auto loaded = must(make_cache_importer("s3", pail.attrs(), d.resources))->load({});
    return loaded.ok() ? std::string() : loaded.error().message;
  };
  auto layer = "{\"layers\":[{\"blob\":\"" + sha256("x").str() + "\",\"parent\":-1";
  CHECK(import_error("nonsense").starts_with("invalid cache config: not JSON: wrong at "));
  CHECK(import_error(layer + "}]}") == "cache layer with missing annotations");
  CHECK(import_error(layer + ",\"annotations\":{\"size\":1}}]}") == "cache layer with missing diffid");
}

TEST_CASE("attributes of S3 caches are checked in upstream's words") {
  distribution::hosts hosts;
  auto said = [&](attributes attrs) {
    for (const auto& [name, value] : attributes{{"access_key_id", "k"}, {"secret_access_key", "s"}})
      attrs[name] = value;
    auto made = make_cache_exporter("s3", attrs, {nullptr, &hosts});
    return made.ok() ? std::string() : made.error().message;
  };
  CHECK(said({}) == "failed to configure s3 cache exporter: bucket ($AWS_BUCKET) not set for s3 cache");
  CHECK(said({{"bucket", "b"}}) ==
        "failed to configure s3 cache exporter: region ($AWS_REGION) not set for s3 cache");
  attributes good{{"bucket", "b"}, {"region", "r"}};
  CHECK(said(good).empty());
  for (const auto& [name, value] : attributes{{"upload_parallelism", "0"}, {"retry_max_attempts", "many"}}) {
    auto attrs = good;
    attrs[name] = value;
    CHECK(said(attrs) == "failed to configure s3 cache exporter: " + name + " must be a positive integer");
  }
  for (const char* region : {"x@evil.example/", "eu/1", "eu.1", "eu:1", "", "a b"}) {
    auto attrs = good;
    attrs["region"] = region;
    CHECK(said(attrs) == "failed to configure s3 cache exporter: region \"" + std::string(region) +
                             "\" for s3 cache is no name of a region");
  }
  for (const char* name : {"b@evil.example/", "b/c", "b:1", "b?c", ""}) {
    auto attrs = good;
    attrs["bucket"] = name;
    CHECK(said(attrs) == "failed to configure s3 cache exporter: bucket \"" + std::string(name) +
                             "\" for s3 cache is no name of a bucket");
  }
  auto half = good;
  half["secret_access_key"] = "";
  distribution::hosts none;
  half["access_key_id"] = "k";
  CHECK(
      make_cache_exporter("s3", half, {nullptr, &none}).error().message ==
      "failed to configure s3 cache exporter: access_key_id and secret_access_key for s3 cache go together");
  good["retry_mode"] = "stubborn";
  CHECK(said(good) ==
        "failed to configure s3 cache exporter: retry_mode must be \"standard\" or \"adaptive\"");
}
