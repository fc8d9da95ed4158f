#include <catch2/catch.hpp>

#include <future>

#include <list>
#include <map>
#include <thread>

#include <sys/stat.h>

#include "base/json_text.hpp"
#include "content.pb.h"
#include "distribution/image_json.hpp"
#include "distribution/media_types.hpp"
#include "store/archive/tar_writer.hpp"
#include "tests/support/byte_streams.hpp"
#include "tests/support/secrets.hpp"
#include "tests/support/http_server.hpp"
#include "tests/support/stream_pair.hpp"
#include "tests/support/temp_dir.hpp"
#include "upload.pb.h"
#include "workers/sources/download_name.hpp"
#include "workers/sources/http.hpp"
#include "workers/sources/image_blob.hpp"
#include "workers/sources/oci_layout.hpp"
#include "workers/sources/resolutions.hpp"
#include "workers/sources/single_file.hpp"

using namespace kiln;
using test::http_answer;
using test::http_request;
using test::http_server;
namespace gw = moby::buildkit::v1::frontend;

namespace {

struct setup {
  test::temp_dir dir;
  std::unique_ptr<store::ref_store> store =
      store::ref_store::open({dir / "state", store::snapshotter_kind::automatic}).value();
  distribution::hosts hosts;
  std::unique_ptr<workers::source_handler> source = workers::make_http_source(*store, hosts);
  job_context job;
  std::shared_ptr<workers::resolutions> build = std::make_shared<workers::resolutions>();

  void next_build() { build = std::make_shared<workers::resolutions>(); }
  static workers::op_request op(const std::string& id, const std::map<std::string, std::string>& attrs = {}) {
    workers::op_request r;
    r.vertex = sha256(id).str();
    r.platform = parse_platform("linux/amd64").value();
    r.op.mutable_source()->set_identifier(id);
    for (const auto& [k, v] : attrs) (*r.op.mutable_source()->mutable_attrs())[k] = v;
    return r;
  }
  std::string key(workers::op_request r) {
    r.build = build;
    auto m = source->cache_map(r, 0, job);
    return m.ok() ? m->op_digest.str() : m.error().message;
  }
  struct file {
    std::string name, text;
    struct stat st {};
  };
  file get(workers::op_request r) {
    r.build = build;
    auto refs = source->run(r, {}, job);
    INFO((refs.ok() ? "" : refs.error().message));
    REQUIRE(refs.ok());
    auto m = store::mounted::make(*store, store->files().mounts(refs->at(0), job).value()).value();
    file f;
    int n = 0;
    for (const auto& e : std::filesystem::directory_iterator(m.path())) {
      ++n;
      f.name = e.path().filename();
      f.text = test::read_file(e.path());
      ::lstat(e.path().c_str(), &f.st);
    }
    CHECK(n == 1);
    return f;
  }
};

/// Serves a client's content store of these blobs.
void offer_content(test::fake_session& s, const std::map<std::string, std::string>& blobs,
                   std::list<std::thread>& threads, const std::string& id) {
  namespace content = containerd::services::content::v1;
  s.on_call("/containerd.services.content.v1.Content/Info",
            [blobs, id](std::string_view bytes, const call_metadata& md) -> result<std::string> {
              CHECK(md == call_metadata{{"buildkit-attachable-store-id", id}});
              content::InfoRequest req;
              req.ParseFromString(std::string(bytes));
              if (!blobs.contains(req.digest())) return make_error(errc::not_found, "no blob");
              content::InfoResponse r;
              r.mutable_info()->set_size(static_cast<std::int64_t>(blobs.at(req.digest()).size()));
              return r.SerializeAsString();
            });
  s.on_open("/containerd.services.content.v1.Content/Read",
            [blobs, &threads](const call_metadata&) -> result<std::unique_ptr<message_stream>> {
              auto [ours, theirs] = test::make_stream_pair();
              threads.emplace_back([blobs, s = std::shared_ptr<test::stream_end>(std::move(ours))] {
                std::string bytes;
                content::ReadContentRequest req;
                if (s->read(bytes) && req.ParseFromString(bytes) && blobs.contains(req.digest())) {
                  content::ReadContentResponse r;
                  r.set_data(blobs.at(req.digest()).substr(static_cast<std::size_t>(req.offset())));
                  s->write(r.SerializeAsString());
                }
                s->writes_done();
              });
              return std::unique_ptr<message_stream>(std::move(theirs));
            });
}

}  // namespace

TEST_CASE("a download becomes one file with the look the op asks for") {
  http_server server([](const http_request& r) -> http_answer {
    if (r.path == "/named")
      return {200, {{"Content-Disposition", "attachment; filename=\"../../etc/real name.txt\""}}, "x"};
    if (r.path == "/moved") return {302, {{"Location", "/a/tool.bin"}}, ""};
    return {200, {{"Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT"}}, "content"};
  });
  setup s;
  auto f = s.get(s.op(server.url() + "/a/tool.bin?x=1",
                      {{"http.perm", "0755"}, {"http.uid", "12"}, {"http.gid", "0xd"}}));
  CHECK(f.name == "tool.bin");
  CHECK(f.text == "content");
  CHECK((f.st.st_mode & 07777) == 0755);
  CHECK(f.st.st_uid == 12);
  CHECK(f.st.st_gid == 13);
  CHECK(f.st.st_mtim.tv_sec == 1'700'000'000);
  auto named = s.get(s.op(server.url() + "/named"));
  CHECK(named.name == "real name.txt");
  CHECK((named.st.st_mode & 07777) == 0600);
  CHECK(named.st.st_mtim.tv_sec == 0);
  CHECK(s.get(s.op(server.url() + "/named", {{"http.filename", "mine"}})).name == "mine");
  CHECK(s.get(s.op(server.url() + "/moved")).text == "content");
  CHECK(s.key(s.op(server.url() + "/a/tool.bin?x=1")) ==
        sha256("buildkit.source.v0:" +
               sha256(R"({"Filename":"tool.bin","Perm":0,"UID":0,"GID":0,"Checksum":")" +
                      sha256("content").str() + R"(","LastModTime":"Tue, 14 Nov 2023 22:13:20 GMT"})")
                   .str())
            .str());
}

TEST_CASE("what a server still calls the same is not fetched again") {
  std::string etag = "W/\"one\"", body = "first";
  bool honours = true, knows_head = true;
  http_server server([&](const http_request& r) -> http_answer {
    if (r.method == "HEAD" && !knows_head) return {405, {}, ""};
    bool same =
        honours && r.header("if-none-match").find("\"one\"") != std::string::npos && etag == "W/\"one\"";
    if (same) return {304, {}, ""};
    return {200, {{"ETag", etag}}, body};
  });
  setup s;
  auto request = s.op(server.url() + "/f");
  auto first = s.key(request);
  CHECK(s.get(request).text == "first");
  CHECK(server.count("GET", "/f") == 1);
  s.next_build();
  CHECK(s.key(request) == first);  // by HEAD, answered 304
  honours = false;
  s.next_build();
  CHECK(s.key(request) == first);  // by HEAD, comparing tags
  CHECK(server.count("GET", "/f") == 1);
  honours = true, knows_head = false;
  s.next_build();
  CHECK(s.key(request) == first);  // by GET, answered 304
  CHECK(server.count("GET", "/f") == 2);
  etag = "\"two\"", body = "second";
  s.next_build();
  CHECK(s.key(request) != first);
  CHECK(s.get(request).text == "second");
  CHECK(server.seen().back().header("if-none-match") == "\"one\"");
}

TEST_CASE(
    "within a build a URL leads to what it led to first, whatever is asked about it, however it is written") {
  std::string body = "seen", etag = "\"one\"";
  http_server server([&](const http_request&) {
    return http_answer{
        200, {{"ETag", etag}, {"Content-Disposition", "attachment; filename=named.txt"}}, body};
  });
  setup s;
  gw::ResolveSourceMetaRequest question;
  question.mutable_source()->set_identifier(server.url() + "/f");
  auto seen = s.source->resolve_meta(question, s.build, s.job);
  REQUIRE(seen.ok());
  CHECK(seen->http().checksum() == sha256("seen").str());
  body = "changed", etag = "\"two\"";
  CHECK(s.source->resolve_meta(question, s.build, s.job)->http().checksum() == sha256("seen").str());
  prune_rule all;
  all.all = true;
  REQUIRE(s.store->space().prune(all, [](const store::usage_record&) {}).ok());
  auto plain = s.get(s.op(server.url() + "/f"));
  CHECK(plain.text == "seen");
  CHECK(plain.name == "named.txt");
  auto other_spelling = "http://127.0.0.1:" + std::to_string(server.port()) + "/a/../%66#part";
  auto other_look =
      s.get(s.op(other_spelling, {{"http.filename", "mine"}, {"http.perm", "0755"}, {"http.uid", "7"}}));
  CHECK(other_look.text == "seen");
  CHECK(other_look.name == "mine");
  CHECK((other_look.st.st_mode & 07777) == 0755);
  CHECK(other_look.st.st_uid == 7);
  CHECK(server.count("GET", "") == 1);
  // With other words the server may well answer something else.
  CHECK(s.get(s.op(server.url() + "/f", {{"http.header.accept", "text/x"}})).text == "changed");
  s.next_build();
  CHECK(s.get(s.op(server.url() + "/f")).text == "changed");
}

TEST_CASE("one resolves, whoever else asks meanwhile waits; failures are not remembered") {
  workers::resolutions build(2);
  int asked = 0;
  auto failing = [&]() -> result<int> { return ++asked, result<int>(make_error(errc::unavailable, "away")); };
  auto good = [&]() -> result<int> { return ++asked; };
  CHECK(build.once<int>("a", {}, failing).error().message == "away");
  CHECK(build.once<int>("a", {}, good).value() == 2);
  CHECK(build.once<int>("a", {}, failing).value() == 2);
  std::promise<void> entered, leave;
  auto first = std::async(std::launch::async, [&] {
    return build.once<int>("b", {}, [&]() -> result<int> {
      entered.set_value();
      leave.get_future().wait();
      return 7;
    });
  });
  entered.get_future().wait();
  std::stop_source stop;
  stop.request_stop();
  CHECK(build.once<int>("b", stop.get_token(), good).error().code == errc::cancelled);
  auto second = std::async(std::launch::async, [&] { return build.once<int>("b", {}, good); });
  leave.set_value();
  CHECK(first.get().value() == 7);
  CHECK(second.get().value() == 7);
  CHECK(asked == 2);
  CHECK(build.once<int>("c", {}, good).error().message == "a build may resolve 2 sources, not more");
  workers::resolution_table table;
  auto held = table.open("x");
  CHECK(table.open("x") == held);
  CHECK(table.find("x") == held);
  held.reset();
  CHECK(table.find("x") == nullptr);
}

TEST_CASE("a pinned checksum gives the key without a request, and guards the content") {
  http_server server([](const http_request&) { return http_answer{200, {}, "content"}; });
  setup s;
  auto good = s.op(server.url() + "/f", {{"http.checksum", sha256("content").str()}});
  auto bad = s.op(server.url() + "/f", {{"http.checksum", sha256("other").str()}});
  s.key(good);
  CHECK(server.seen().empty());
  CHECK(s.get(good).text == "content");
  CHECK(s.get(good).text == "content");
  CHECK(server.seen().size() == 1);
  CHECK(s.source->run(bad, {}, s.job).error().message == "digest mismatch for " + server.url() +
                                                             "/f: " + sha256("content").str() +
                                                             " (expected: " + sha256("other").str() + ")");
}

TEST_CASE("failures name the status, and passing ones are retried") {
  std::atomic<int> calls{0};
  http_server server([&](const http_request& r) -> http_answer {
    if (r.path == "/flaky") return ++calls < 2 ? http_answer{503, {}, ""} : http_answer{200, {}, "ok"};
    return {404, {}, "nothing"};
  });
  setup s;
  CHECK(s.source->cache_map(s.op(server.url() + "/none"), 0, s.job).error().message ==
        "invalid response status 404 for " + server.url() + "/none");
  CHECK(s.get(s.op(server.url() + "/flaky")).text == "ok");
  CHECK_FALSE(s.source->cache_map(s.op(server.url() + "/x", {{"http.perm", "rwx"}}), 0, s.job).ok());
  CHECK(
      s.source->cache_map(s.op(server.url() + "/x", {{"http.sig.pubkey", "k"}}), 0, s.job).error().message ==
      "http signature verification requires both pubkey and signature");
}

TEST_CASE("secrets become the Authorization header, chosen headers go along, others do not") {
  http_server server([](const http_request& r) {
    return http_answer{
        200, {}, r.header("authorization") + "|" + r.header("accept") + "|" + r.header("x-other")};
  });
  setup s;
  auto session = std::make_shared<test::fake_session>("client");
  test::serve_secrets(*session, [](const std::string& id) -> std::optional<std::string> {
    if (id == "mine") return "Basic abc";
    if (id == "HTTP_AUTH_TOKEN_127.0.0.1") return "tok";
    return std::nullopt;
  });
  test::fake_directory clients;
  clients.add(session);
  s.job = clients.job();
  CHECK(s.get(s.op(server.url() + "/a", {{"http.authheadersecret", "mine"},
                                         {"http.header.accept", "text/x"},
                                         {"http.header.x-other", "no"}}))
            .text == "Basic abc|text/x|");
  CHECK(s.get(s.op(server.url() + "/b")).text.starts_with("Bearer tok|"));
  CHECK(s.source->cache_map(s.op(server.url() + "/c", {{"http.authheadersecret", "gone"}}), 0, s.job)
            .error()
            .message == "failed to retrieve HTTP auth secret gone: secret not found");
}

TEST_CASE("secrets for a host are not sent in clear text, and the client is told") {
  http_server server([](const http_request& r) {
    return http_answer{200, {}, "<" + r.header("authorization") + ">"};
  });
  setup s;
  auto session = std::make_shared<test::fake_session>("client");
  test::serve_secrets(*session, [](const std::string& id) { return id == "mine" ? "Basic abc" : "tok"; });
  test::fake_directory clients;
  clients.add(session);
  test::recording_progress progress;
  s.job = clients.job();
  s.job.progress = &progress;
  auto host =
      "0.0.0.0:" + std::to_string(server.port());  // leads here, and is not what this machine gets unasked
  CHECK(s.get(s.op("http://" + host + "/a")).text == "<>");
  REQUIRE(progress.warnings.size() == 1);
  CHECK(progress.warnings[0] ==
        "the HTTP auth secret for 0.0.0.0 is not sent to http://" + host + ": it is not https");
  // One that the source names is for this URL.
  CHECK(s.get(s.op("http://" + host + "/a", {{"http.authheadersecret", "mine"}})).text == "<Basic abc>");
  // Nor does it follow a redirect from where it may be sent to where it may not.
  http_server first([&](const http_request&) {
    return http_answer{302, {{"Location", "http://" + host + "/b"}}, ""};
  });
  CHECK(s.get(s.op(first.url() + "/a")).text == "<>");
  CHECK(first.seen().back().header("authorization") == "Bearer tok");
  configs::registry_config plain;
  plain.http = true;
  distribution::hosts configured({{host, plain}});
  s.source = workers::make_http_source(*s.store, configured);
  s.next_build();
  CHECK(s.get(s.op("http://" + host + "/a")).text == "<Bearer tok>");
}

TEST_CASE("a session URL is read from the client, once") {
  setup s;
  int opened = 0;
  auto session = std::make_shared<test::fake_session>("client");
  session->on_open("/moby.upload.v1.Upload/Pull",
                   [&](const call_metadata& md) -> result<std::unique_ptr<message_stream>> {
                     ++opened;
                     CHECK(md == call_metadata{{"urlpath", "/abc"}, {"urlhost", "buildkit-session"}});
                     auto [ours, theirs] = test::make_stream_pair();
                     moby::upload::v1::BytesMessage m;
                     m.set_data("uploaded");
                     ours->write(m.SerializeAsString());
                     ours->writes_done();
                     return std::unique_ptr<message_stream>(std::move(theirs));
                   });
  test::fake_directory clients;
  clients.add(session);
  s.job = clients.job();
  auto request = s.op("http://buildkit-session/abc");
  auto key = s.key(request);
  CHECK(s.get(request).text == "uploaded");
  CHECK(s.key(request) == key);
  CHECK(opened == 1);
}

TEST_CASE("metadata of a download can be asked for, with a checksum of its own") {
  http_server server([](const http_request&) {
    return http_answer{200, {{"Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT"}}, "abc"};
  });
  setup s;
  gw::ResolveSourceMetaRequest r;
  r.mutable_source()->set_identifier(server.url() + "/file.txt");
  r.mutable_http()->mutable_checksumrequest()->set_algo(gw::ChecksumRequest::CHECKSUM_ALGO_SHA512);
  r.mutable_http()->mutable_checksumrequest()->set_suffix("");
  auto m = s.source->resolve_meta(r, s.build, s.job);
  REQUIRE(m.ok());
  CHECK(m->http().checksum() == sha256("abc").str());
  CHECK(m->http().filename() == "file.txt");
  CHECK(m->http().lastmodified().seconds() == 1'700'000'000);
  CHECK(m->http().checksumresponse().digest().starts_with("sha512:ddaf35a193617abacc417349ae204131"));
  r.mutable_http()->mutable_checksumrequest()->set_algo(gw::ChecksumRequest::CHECKSUM_ALGO_SHA256);
  r.mutable_http()->mutable_checksumrequest()->set_suffix("def");
  CHECK(s.source->resolve_meta(r, s.build, s.job)->http().checksumresponse().digest() ==
        sha256("abcdef").str());
}

TEST_CASE("names of downloads are single components") {
  using workers::download_name;
  CHECK(download_name("http://h/a/b.txt?q#f", "", "") == "b.txt");
  CHECK(download_name("http://h", "", "") == "download");
  CHECK(download_name("http://h/", "", "") == "download");
  CHECK(download_name("http://h/x", "", "attachment; filename*=UTF-8''na%20me.txt; filename=plain") ==
        "na me.txt");
  CHECK(download_name("http://h/x", "", "attachment; filename=dir/") == "x");
  CHECK(download_name("http://h/%2e%2e", "", "") == "download");
  CHECK(workers::safe_file_name("a/../..") == "download");
  CHECK(workers::safe_file_name("a\nb") == "download");
  CHECK(workers::safe_file_name(" /etc/passwd ") == "passwd");
}

TEST_CASE("an image of a client's layout is read through its session") {
  setup s;
  std::list<std::thread> threads;
  test::string_sink sink;
  store::tar_writer tar(sink);
  store::tar_entry e;
  e.name = "f", e.mode = 0644, e.size = 4;
  REQUIRE((tar.header(e).ok() && tar.content("text").ok() && tar.end_entry().ok() && tar.finish().ok()));
  std::map<std::string, std::string> blobs;
  auto put = [&](const std::string& bytes, std::string_view type) {
    descriptor d;
    d.media_type = type;
    d.digest = sha256(bytes);
    d.size = static_cast<std::int64_t>(bytes.size());
    blobs[d.digest.str()] = bytes;
    return distribution::descriptor_json(d);
  };
  nlohmann::ordered_json config{{"os", "linux"},
                                {"architecture", "amd64"},
                                {"rootfs", {{"type", "layers"}, {"diff_ids", {sha256(sink.bytes).str()}}}}};
  nlohmann::ordered_json m{{"schemaVersion", 2}, {"mediaType", distribution::media::oci_manifest}};
  m["config"] = put(config.dump(), distribution::media::oci_config);
  m["layers"] = nlohmann::ordered_json::array({put(sink.bytes, distribution::media::oci_layer)});
  auto root = text_value(put(m.dump(), distribution::media::oci_manifest)["digest"]);
  auto session = std::make_shared<test::fake_session>("client");
  offer_content(*session, blobs, threads, "oci:base");
  test::fake_directory clients;
  clients.add(session);
  s.job = clients.job();
  auto layout = workers::make_oci_layout_source(*s.store);
  s.source = std::move(layout);
  std::map<std::string, std::string> attrs{{"oci.store", "base"}, {"oci.session", "client"}};
  auto request = s.op("oci-layout://example.com/base@" + root, attrs);
  auto first = s.source->cache_map(request, 0, s.job);
  REQUIRE(first.ok());
  CHECK(first->more);
  CHECK(s.source->cache_map(request, 1, s.job)->op_digest ==
        sha256("buildkit.source.v0:" + sha256(sink.bytes).str()));
  CHECK_FALSE(s.store->blobs().has(sha256(sink.bytes)));
  auto f = s.get(request);
  CHECK(f.name == "f");
  CHECK(f.text == "text");
  gw::ResolveSourceMetaRequest meta;
  *meta.mutable_source() = request.op.source();
  CHECK(s.source->resolve_meta(meta, s.build, s.job)->image().config() == config.dump());
  CHECK(s.source->cache_map(s.op("oci-layout://example.com/base:tag", attrs), 0, s.job).error().message ==
        "reference \"example.com/base:tag\" must have digest");

  s.source = workers::make_image_blob_source(*s.store, s.hosts);
  auto blob = s.get(s.op("oci-layout+blob://example.com/base@" + sha256(config.dump()).str(),
                         {{"oci.store", "base"}, {"http.filename", "c.json"}}));
  CHECK(blob.name == "c.json");
  CHECK(blob.text == config.dump());
  CHECK(s.source->cache_map(s.op("oci-layout+blob://example.com/base@" + root), 0, s.job).error().message ==
        "oci-layout blob source requires store id");
  for (auto& t : threads) t.join();
}

TEST_CASE("a blob of a registry becomes a file") {
  std::string text = "blob text";
  http_server server([&](const http_request& r) -> http_answer {
    if (r.path.find("/blobs/" + sha256(text).str()) == std::string::npos) return {404, {}, ""};
    return {200, {}, text};
  });
  setup s;
  s.source = workers::make_image_blob_source(*s.store, s.hosts);
  std::string name = "docker-image+blob://" + server.host() + "/x@";
  auto f = s.get(s.op(name + sha256(text).str()));
  CHECK(f.name == sha256(text).hex());
  CHECK(f.text == text);
  CHECK_FALSE(s.store->blobs().has(sha256(text)));
  CHECK(s.source->run(s.op(name + sha256("gone").str()), {}, s.job).error().message ==
        server.host() + "/x@" + sha256("gone").str() + ": not found");
  CHECK_FALSE(s.source->cache_map(s.op("docker-image+blob://" + server.host() + "/x:tag"), 0, s.job).ok());
}
