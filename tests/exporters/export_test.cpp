#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdio>
#include <list>
#include <map>
#include <mutex>
#include <thread>

#include <archive.h>
#include <archive_entry.h>

#include "base/json_text.hpp"
#include "content.pb.h"
#include "exporters/exporter.hpp"
#include "filesync.pb.h"
#include "distribution/hosts.hpp"
#include "distribution/image_names.hpp"
#include "store/archive/codec.hpp"
#include "filesync/receiver.hpp"
#include "tests/support/byte_streams.hpp"
#include "tests/support/fake_client.hpp"
#include "tests/support/registry_process.hpp"
#include "tests/support/stream_pair.hpp"
#include "tests/support/temp_dir.hpp"

using namespace kiln;
using exporters::export_input;
using exporters::make_exporter;
namespace content = containerd::services::content::v1;
namespace fs = std::filesystem;

namespace {

/// A client that keeps the single file it is sent, receives directories, and has a content store.
class client {
 public:
  explicit client(const fs::path& dir) : session(std::make_shared<test::fake_session>("client")), dir_(dir) {
    clients.add(session);
    session->on_call("/containerd.services.content.v1.Content/Info",
                     [this](std::string_view bytes, const call_metadata& md) -> result<std::string> {
                       CHECK(md == call_metadata{{"buildkit-attachable-store-id", "export"}});
                       content::InfoRequest req;
                       req.ParseFromString(std::string(bytes));
                       std::lock_guard lock(mutex_);
                       if (!blobs.contains(req.digest())) return make_error(errc::not_found, "no such blob");
                       return content::InfoResponse().SerializeAsString();
                     });
    session->on_open("/containerd.services.content.v1.Content/Write", [this](const call_metadata&) {
      return serve([this](message_stream& s) { write_blob(s); });
    });
  }
  ~client() {
    for (auto& t : servers_) t.join();
  }

  void receive_file(status verdict = {}) {
    session->on_open("/moby.filesync.v1.FileSend/DiffCopy", [this, verdict](const call_metadata& md) {
      metadata = md;
      return serve(
          [this](message_stream& s) {
            std::string bytes;
            moby::filesync::v1::BytesMessage m;
            while (s.read(bytes)) {
              REQUIRE(m.ParseFromString(bytes));
              CHECK(m.data().size() <= 3u << 20);
              file += m.data();
            }
          },
          verdict);
    });
  }
  void receive_tree() {
    session->on_open("/moby.filesync.v1.FileSend/DiffCopy", [this](const call_metadata& md) {
      metadata = md;
      return serve([this](message_stream& s) {
        filesync::receive_options o;
        o.merge = true;
        auto r = filesync::receive(s, dir_.string(), o);
        std::lock_guard lock(mutex_);
        if (!r.ok()) failures += r.error().message;
      });
    });
  }
  /// The tar that was sent: path → "type mode content".
  std::map<std::string, std::string> listing() const {
    std::map<std::string, std::string> out;
    archive* a = archive_read_new();
    archive_read_support_format_tar(a);
    REQUIRE(archive_read_open_memory(a, file.data(), file.size()) == ARCHIVE_OK);
    archive_entry* e;
    int rc;
    while ((rc = archive_read_next_header(a, &e)) == ARCHIVE_OK) {
      std::string text(static_cast<std::size_t>(archive_entry_size(e)), '\0');
      if (!text.empty()) archive_read_data(a, text.data(), text.size());
      if (archive_entry_hardlink(e)) text = std::string("hardlink ") + archive_entry_hardlink(e);
      if (archive_entry_symlink(e)) text = std::string("symlink ") + archive_entry_symlink(e);
      out[archive_entry_pathname(e)] = text;
      times[archive_entry_pathname(e)] = archive_entry_mtime(e);
    }
    CHECK(rc == ARCHIVE_EOF);
    archive_read_free(a);
    return out;
  }

  test::fake_directory clients;
  std::shared_ptr<test::fake_session> session;
  std::string file, failures;
  mutable std::map<std::string, std::int64_t> times;
  call_metadata metadata;
  std::map<std::string, std::string> blobs;

 private:
  result<std::unique_ptr<message_stream>> serve(std::function<void(message_stream&)> f, status verdict = {}) {
    auto pipe = std::make_shared<test::stream_pipe>();
    pipe->verdict = verdict;
    auto ours = std::make_shared<test::stream_end>(pipe, 1);
    if (!verdict.ok()) pipe->closed[0] = pipe->closed[1] = true;
    std::lock_guard lock(mutex_);
    servers_.emplace_back([f, ours, refuse = !verdict.ok()] {
      if (!refuse) f(*ours);
      ours->writes_done();
    });
    return std::unique_ptr<message_stream>(std::make_unique<test::stream_end>(pipe, 0));
  }
  void write_blob(message_stream& s) {
    std::string bytes, data;
    content::WriteContentRequest req;
    while (s.read(bytes)) {
      REQUIRE(req.ParseFromString(bytes));
      if (req.action() == content::WRITE) {
        CHECK(req.offset() == static_cast<std::int64_t>(data.size()));
        data += req.data();
      }
      content::WriteContentResponse answer;
      answer.set_action(req.action());
      answer.set_offset(static_cast<std::int64_t>(data.size()));
      if (req.action() == content::COMMIT) {
        CHECK(sha256(data).str() == req.expected());
        std::lock_guard lock(mutex_);
        blobs[req.expected()] = data;
      }
      s.write(answer.SerializeAsString());
    }
  }

  fs::path dir_;
  mutable std::mutex mutex_;
  std::list<std::thread> servers_;
};

struct setup {
  test::temp_dir dir;
  std::unique_ptr<store::ref_store> store =
      store::ref_store::open({(dir / "state"), store::snapshotter_kind::automatic}).value();
  distribution::hosts hosts;
  test::recording_progress progress;
  client user{make(dir / "out")};

  static fs::path make(const fs::path& p) {
    fs::create_directories(p);
    return p;
  }
  job_context job() {
    auto j = user.clients.job();
    j.progress = &progress;
    return j;
  }
  exporters::exporter_resources resources() { return {store.get(), &hosts}; }

  /// A layer on top of `parent` that `change` writes.
  store::ref layer(const store::ref& parent, const std::string& description,
                   const std::function<void(const fs::path&)>& change) {
    store::record_options o;
    o.description = description;
    o.created_at_ns = 1'700'000'000'000'000'000;
    auto m = store->create(parent, o, job()).value();
    {
      auto mounted = store::mounted::make(*store, store->files().mounts(m).value()).value();
      change(mounted.path());
    }
    return store->commit(std::move(m)).value();
  }
  store::ref two_layers() {
    auto base = layer({}, "base", [](const fs::path& p) {
      test::write_file(p / "etc/name", "base");
      test::write_file(p / "gone", "soon");
      fs::create_symlink("name", p / "etc/link");
    });
    return layer(base, "RUN change", [](const fs::path& p) {
      test::write_file(p / "data/file", std::string(100'000, 'd'));
      fs::create_hard_link(p / "data/file", p / "data/again");
      fs::remove(p / "gone");
    });
  }
  export_input input(const store::ref& r) {
    export_input in;
    in.refs.push_back({"", {}, r, {}});
    in.session_id = "client";
    in.metadata["containerimage.config"] = R"({"os":"linux","architecture":"amd64","config":{"Cmd":["sh"]}})";
    return in;
  }
  result<exporters::export_outcome> run(const std::string& type,
                                        const std::map<std::string, std::string>& attrs,
                                        const export_input& in, progress_sink* told = nullptr) {
    auto e = make_exporter(type, attrs, 3, resources());
    if (!e.ok()) return std::move(e).error();
    auto j = job();
    if (told) j.progress = told;
    return (*e)->run(in, j);
  }
  nlohmann::json blob(const std::string& digest) {
    return nlohmann::json::parse(store->blobs().read_all(digest::trusted(digest), 1 << 20).value());
  }
};

std::string output_of(const std::string& command, int& code) {
  FILE* p = popen((command + " 2>&1").c_str(), "r");
  std::string out;
  char buffer[4096];
  while (std::size_t n = std::fread(buffer, 1, sizeof buffer, p)) out.append(buffer, n);
  code = pclose(p);
  return out;
}

}  // namespace

TEST_CASE("an image export keeps the image under its name and says what it is") {
  setup s;
  auto out = s.run("image", {{"name", "app:v1,example.com/x/y"}, {"name-canonical", "true"}},
                   s.input(s.two_layers()));
  REQUIRE(out.ok());
  auto r = out->response;
  CHECK(r["image.name"] == "app:v1,example.com/x/y");
  auto manifest = s.blob(r["containerimage.digest"]);
  CHECK(manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json");
  CHECK(manifest["config"]["digest"] == r["containerimage.config.digest"]);
  REQUIRE(manifest["layers"].size() == 2);
  CHECK(manifest["layers"][0]["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip");
  auto config = s.blob(r["containerimage.config.digest"]);
  CHECK(config["rootfs"]["diff_ids"].size() == 2);
  CHECK(config["history"][1]["created_by"] == "RUN change");
  CHECK(config["history"][1]["created"] == "2023-11-14T22:13:20Z");
  CHECK(config["config"]["Cmd"][0] == "sh");
  for (auto name : {"docker.io/library/app:v1", "example.com/x/y:latest"}) {
    auto value = s.store->values().get(distribution::image_store_bucket, name);
    REQUIRE(value);
    CHECK(nlohmann::json::parse(*value)["digest"] == r["containerimage.digest"]);
  }
  CHECK(s.store->values().get(distribution::image_store_bucket,
                              "docker.io/library/app:v1@" + r["containerimage.digest"]));
  CHECK_FALSE(out->finalize);
  REQUIRE(out->results.size() == 1);

  // The layer's tar has the change, with the removed file as a whiteout and the hard link as one.
  auto blob = s.store->blobs().read(digest::trusted(text_value(manifest["layers"][1]["digest"]))).value();
  auto plain = store::make_decompressor(std::move(blob));
  test::string_sink tar;
  REQUIRE(store::copy(*plain, tar).ok());
  CHECK(sha256(tar.bytes).str() == config["rootfs"]["diff_ids"][1]);
  s.user.file = tar.bytes;
  auto list = s.user.listing();
  CHECK(list.contains(".wh.gone"));
  CHECK_FALSE(list.contains("etc/name"));
  CHECK(list["data/file"] == "hardlink data/again");
}

TEST_CASE("an image that is pushed later is whole until then, however much is pruned before") {
  setup s;
  for (bool scratch : {true, false}) {
    auto in = s.input(scratch ? store::ref() : s.two_layers());
    auto out = s.run("image",
                     {{"name", "app"},
                      {"push", "true"},
                      {"store", "false"},
                      {"source-date-epoch", "1000000"},
                      {"rewrite-timestamp", "true"}},
                     in);
    REQUIRE(out.ok());
    REQUIRE(out->finalize);
    in.refs.clear();
    REQUIRE(s.store->space().prune({.all = true}, {}).ok());
    auto manifest = s.blob(out->response["containerimage.digest"]);
    auto has = [&](const nlohmann::json& d) {
      return s.store->blobs().has(digest::trusted(d["digest"].get<std::string>()));
    };
    CHECK(has(manifest["config"]));
    CHECK(manifest["layers"].size() == (scratch ? 0 : 2));
    for (const auto& layer : manifest["layers"]) CHECK(has(layer));
    out->finalize = {};
    REQUIRE(s.store->space().prune({.all = true}, {}).ok());
    CHECK(s.store->blobs().list().empty());
  }
}

TEST_CASE("a second export makes the same image without compressing again") {
  setup s;
  auto ref = s.two_layers();
  auto a = s.run("image", {}, s.input(ref));
  auto before = s.store->blobs().list().size();
  auto b = s.run("image", {{"compression-level", "9"}}, s.input(ref));
  REQUIRE(b.ok());
  CHECK(a->response["containerimage.digest"] == b->response["containerimage.digest"]);
  CHECK(s.store->blobs().list().size() == before);
}

TEST_CASE("force-compression converts what other exports made, and each kind can be unpacked again") {
  setup s;
  auto ref = s.two_layers();
  auto gzip = s.run("image", {}, s.input(ref));
  auto kept = s.run("image", {{"compression", "zstd"}}, s.input(ref));
  auto zstd = s.run("image", {{"compression", "zstd"}, {"force-compression", "true"}}, s.input(ref));
  auto plain = s.run("image", {{"compression", "uncompressed"}, {"force-compression", ""}}, s.input(ref));
  REQUIRE((zstd.ok() && plain.ok() && kept.ok()));
  CHECK(kept->response["containerimage.digest"] == gzip->response["containerimage.digest"]);
  CHECK(zstd->response["containerimage.config.digest"] == gzip->response["containerimage.config.digest"]);
  CHECK(s.blob(zstd->response["containerimage.digest"])["layers"][0]["mediaType"] ==
        "application/vnd.oci.image.layer.v1.tar+zstd");
  CHECK(s.blob(plain->response["containerimage.digest"])["layers"][0]["mediaType"] ==
        "application/vnd.oci.image.layer.v1.tar");
  auto docker = s.run("image", {{"oci-mediatypes", "false"}}, s.input(ref));
  CHECK(s.blob(docker->response["containerimage.digest"])["mediaType"] ==
        "application/vnd.docker.distribution.manifest.v2+json");
}

TEST_CASE(
    "eStargz layers have annotations and diff ids of their own, and become the layers they were again") {
  setup s;
  auto ref = s.two_layers();
  auto estargz = s.run("image", {{"compression", "estargz"}}, s.input(ref));
  REQUIRE(estargz.ok());
  auto layers = s.blob(estargz->response["containerimage.digest"])["layers"];
  REQUIRE(layers.size() == 2);
  for (const auto& l : layers) {
    CHECK(l["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip");
    CHECK(text_member(l["annotations"], "containerd.io/snapshot/stargz/toc.digest").starts_with("sha256:"));
    CHECK(text_member(l["annotations"], "io.containers.estargz.uncompressed-size") > "1");
    CHECK(l["annotations"].size() == 2);
  }
  auto gzip = s.run("image", {{"force-compression", "true"}}, s.input(ref));
  REQUIRE(gzip.ok());
  for (const auto& l : s.blob(gzip->response["containerimage.digest"])["layers"])
    CHECK_FALSE(l.contains("annotations"));

  // As if it had never been eStargz; and the other way round.
  setup fresh;
  auto plain = fresh.run("image", {}, fresh.input(fresh.two_layers()));
  auto diffs = [](setup& of, exporters::export_outcome& o) {
    return of.blob(o.response["containerimage.config.digest"])["rootfs"]["diff_ids"];
  };
  CHECK(diffs(s, *gzip) == diffs(fresh, *plain));
  CHECK(diffs(s, *gzip) != diffs(s, *estargz));
  auto later = fresh.run("image", {{"compression", "estargz"}, {"force-compression", "true"}},
                         fresh.input(fresh.two_layers()));
  REQUIRE(later.ok());
  CHECK(fresh.blob(later->response["containerimage.digest"])["layers"] == layers);
}

TEST_CASE("an image is pushed to a real registry and other tools can read it") {
  test::registry_process server;
  setup s;
  auto out =
      s.run("image", {{"name", server.host() + "/team/app:v2"}, {"push", "true"}}, s.input(s.two_layers()));
  REQUIRE(out.ok());
  REQUIRE(out->finalize);
  auto pushed = out->finalize(s.job());
  REQUIRE(pushed.ok());
  int code = 0;
  auto text = output_of("skopeo inspect --tls-verify=false docker://" + server.host() + "/team/app:v2", code);
  INFO(text);
  REQUIRE(code == 0);
  CHECK(nlohmann::json::parse(text)["Digest"] == out->response["containerimage.digest"]);
  CHECK(nlohmann::json::parse(text)["Layers"].size() == 2);
  CHECK(std::count(s.progress.ended.begin(), s.progress.ended.end(), "pushing layers") == 1);

  auto refused = s.run("image", {{"name", "127.0.0.1:1/app"}, {"push", "true"}}, s.input({}));
  REQUIRE(refused.ok());
  auto failed = refused->finalize(s.job());
  REQUIRE_FALSE(failed.ok());
  CHECK(failed.error().message.find("failed to push 127.0.0.1:1/app: ") == 0);
}

TEST_CASE("docker and oci tars hold the image and other tools can read them") {
  setup s;
  auto ref = s.two_layers();
  s.user.receive_file();
  auto out = s.run("docker", {{"name", "app:v1"}}, s.input(ref));
  REQUIRE(out.ok());
  CHECK(out->response["image.name"] == "docker.io/library/app:v1");
  auto list = s.user.listing();
  auto manifest = nlohmann::json::parse(list["manifest.json"])[0];
  CHECK(manifest["RepoTags"][0] == "app:v1");
  CHECK(list.contains(text_value(manifest["Config"])));
  CHECK(manifest["Layers"].size() == 2);
  CHECK(list.contains(text_value(manifest["Layers"][1])));
  auto index = nlohmann::json::parse(list["index.json"]);
  CHECK(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] == "v1");
  CHECK(index["manifests"][0]["annotations"]["io.containerd.image.name"] == "docker.io/library/app:v1");
  CHECK(std::count(s.user.metadata.begin(), s.user.metadata.end(),
                   std::pair<std::string, std::string>("buildkit-attachable-exporter-id", "3")) == 1);
  CHECK(std::count(s.user.metadata.begin(), s.user.metadata.end(),
                   std::pair<std::string, std::string>("exporter-md-containerimage.digest",
                                                       out->response["containerimage.digest"])) == 1);
  test::write_file(s.dir / "d.tar", s.user.file);
  int code = 0;
  auto text = output_of("skopeo inspect docker-archive:" + (s.dir / "d.tar").string(), code);
  INFO(text);
  CHECK(code == 0);

  s.user.file.clear();
  REQUIRE(s.run("oci", {{"compression", "zstd"}, {"force-compression", "true"}}, s.input(ref)).ok());
  CHECK_FALSE(s.user.listing().contains("manifest.json"));
  CHECK(s.user.listing()["oci-layout"] == R"({"imageLayoutVersion":"1.0.0"})");
  test::write_file(s.dir / "o.tar", s.user.file);
  text = output_of("skopeo inspect oci-archive:" + (s.dir / "o.tar").string(), code);
  INFO(text);
  CHECK(code == 0);
}

TEST_CASE("with tar=false the blobs go to the client's content store, those it has not again") {
  setup s;
  auto ref = s.two_layers();
  auto out = s.run("oci", {{"tar", "false"}}, s.input(ref));
  REQUIRE(out.ok());
  CHECK(s.user.blobs.size() == 4);
  CHECK(s.user.blobs.contains(out->response["containerimage.digest"]));
  CHECK(s.run("oci", {{"tar", "false"}}, s.input(ref)).ok());
  CHECK(s.user.blobs.size() == 4);
}

TEST_CASE("a client that has the file already ends the export well") {
  setup s;
  s.user.receive_file(make_error(errc::already_exists, "target already exists"));
  CHECK(s.run("docker", {}, s.input(s.two_layers())).ok());
  CHECK(s.run("tar", {}, s.input({})).ok());
  s.user.receive_file(make_error(errc::permission_denied, "read-only file system"));
  CHECK(s.run("docker", {}, s.input({})).error().message.find("read-only file system") != std::string::npos);
}

TEST_CASE("a directory export has the files and their times") {
  setup s;
  s.user.receive_tree();
  auto ref = s.two_layers();
  auto out = s.run("local", {{"source-date-epoch", "1000"}}, s.input(ref));
  REQUIRE(out.ok());
  CHECK(s.user.failures.empty());
  CHECK(test::read_file(s.dir / "out/etc/name") == "base");
  CHECK(fs::read_symlink(s.dir / "out/etc/link") == "name");
  CHECK_FALSE(fs::exists(s.dir / "out/gone"));
  CHECK(fs::hard_link_count(s.dir / "out/data/file") == 2);
  struct stat st {};
  REQUIRE(stat((s.dir / "out/etc/name").c_str(), &st) == 0);
  CHECK(st.st_mtim.tv_sec == 1000);
}

TEST_CASE("several platforms are split into directories, or refused when they collide") {
  setup s;
  export_input in;
  in.session_id = "client";
  in.multi_platform = true;
  for (auto id : {"linux/amd64", "linux/arm64"}) {
    auto r = s.layer({}, id, [&](const fs::path& p) { test::write_file(p / "f", id); });
    in.refs.push_back({id, parse_platform(id).value(), r, {}});
  }
  s.user.receive_tree();
  REQUIRE(s.run("local", {}, in).ok());
  CHECK(test::read_file(s.dir / "out/linux_amd64/f") == "linux/amd64");
  CHECK(test::read_file(s.dir / "out/linux_arm64/f") == "linux/arm64");
  REQUIRE(s.run("local", {{"mode", "delete"}}, in).ok());
  CHECK(std::count(s.user.metadata.begin(), s.user.metadata.end(),
                   std::pair<std::string, std::string>("buildkit-exporter-multi-platform", "1")) == 1);
  auto clash = s.run("local", {{"platform-split", "false"}}, in);
  CHECK(clash.error().message ==
        "cannot overwrite f from linux/amd64 with linux/arm64 when split option is disabled");

  auto config = [](const char* arch) {
    return R"({"os":"linux","architecture":")" + std::string(arch) + "\"}";
  };
  in.metadata["containerimage.config/linux/amd64"] = config("amd64");
  in.metadata["containerimage.config/linux/arm64"] = config("arm64");
  auto image = s.run("image", {{"annotation[linux/arm64].k", "v"}, {"annotation-index.i", "w"}}, in);
  REQUIRE(image.ok());
  auto index = s.blob(image->response["containerimage.digest"]);
  CHECK(index["mediaType"] == "application/vnd.oci.image.index.v1+json");
  CHECK(index["annotations"]["i"] == "w");
  REQUIRE(index["manifests"].size() == 2);
  CHECK(index["manifests"][1]["platform"]["architecture"] == "arm64");
  CHECK(s.blob(text_value(index["manifests"][1]["digest"]))["annotations"]["k"] == "v");
  CHECK_FALSE(s.blob(text_value(index["manifests"][0]["digest"])).contains("annotations"));
  CHECK(image->response.count("containerimage.config.digest") == 0);
  CHECK(s.run("docker", {}, in).error().message ==
        "docker exporter does not currently support exporting manifest lists");
  CHECK(s.run("image", {{"annotation[linux/s390x].k", "v"}}, in).error().message ==
        "invalid annotation: no platform linux/s390x found in source");
}

TEST_CASE("annotations for another platform are none of an image of one, which is said") {
  setup s;
  auto in = s.input(s.two_layers());
  test::recording_progress told;
  auto image = s.run("image", {{"annotation[linux/s390x].k", "v"}, {"annotation.all", "w"}}, in, &told);
  REQUIRE(image.ok());
  auto manifest = s.blob(image->response["containerimage.digest"]);
  CHECK(manifest["annotations"] == nlohmann::json::object({{"all", "w"}}));
  REQUIRE(told.warnings.size() == 1);
  CHECK(told.warnings[0].find("annotations for linux/s390x are not used: ") == 0);
}

TEST_CASE("a tar export is one archive of all files") {
  setup s;
  s.user.receive_file();
  REQUIRE(s.run("tar", {{"source-date-epoch", "77"}}, s.input(s.two_layers())).ok());
  auto list = s.user.listing();
  CHECK(list["etc/name"] == "base");
  CHECK(list["etc/link"] == "symlink name");
  CHECK(list["data/file"] == "hardlink data/again");
  CHECK(list["data/again"].size() == 100'000);
  CHECK(s.user.times["etc/name"] == 77);
}

TEST_CASE("rewritten times make builds of different days equal") {
  auto build = [](std::int64_t day) {
    setup s;
    auto ref = s.layer({}, "RUN", [&](const fs::path& p) {
      test::write_file(p / "a/b", "same");
      timespec t[2] = {{day, 5}, {day, 5}};
      for (auto f : {p / "a/b", p / "a"}) utimensat(AT_FDCWD, f.c_str(), t, 0);
    });
    auto out =
        s.run("image", {{"source-date-epoch", "1000000"}, {"rewrite-timestamp", "true"}}, s.input(ref));
    REQUIRE(out.ok());
    return out->response["containerimage.digest"];
  };
  CHECK(build(1'600'000'000) == build(1'650'000'000));
}

TEST_CASE("an empty result is an image without layers, an empty tar and an empty directory") {
  setup s;
  auto image = s.run("image", {}, s.input({}));
  REQUIRE(image.ok());
  CHECK(s.blob(image->response["containerimage.digest"])["layers"].empty());
  s.user.receive_tree();
  CHECK(s.run("local", {}, s.input({})).ok());
  s.user.receive_file();
  CHECK(s.run("tar", {}, s.input({})).ok());
  CHECK(s.user.listing().empty());
}

TEST_CASE("a config that names only half a platform is refused, whatever the caller thinks the platform is") {
  setup s;
  auto in = s.input({});
  in.refs[0].platform = parse_platform("linux/amd64").value();
  in.metadata["containerimage.config"] = R"({"architecture":"amd64"})";
  CHECK(s.run("image", {}, in).error().message ==
        "invalid image config: os and architecture must be specified together");
  in.metadata["containerimage.config"] = "{}";
  CHECK(s.run("image", {}, in).error().message == "invalid image config for export: missing os");
}

TEST_CASE("zstd layers keep their Docker media type when Docker types are asked for") {
  setup s;
  auto out = s.run("image", {{"compression", "zstd"}, {"oci-mediatypes", "false"}}, s.input(s.two_layers()));
  REQUIRE(out.ok());
  CHECK(s.blob(out->response["containerimage.digest"])["layers"][0]["mediaType"] ==
        "application/vnd.docker.image.rootfs.diff.tar.zstd");
}

TEST_CASE("images of builds like those of old have Docker's media types, unless they have attestations") {
  setup s;
  auto types = [&](const std::string& type, int version, bool attested,
                   const std::map<std::string, std::string>& attributes = {}) {
    auto in = s.input(s.two_layers());
    in.compatibility_version = version;
    if (attested) {
      attestation a;
      a.path = "p.json";
      a.predicate_type = "https://example.com/p";
      a.content = "{}";
      in.refs[0].attestations.push_back({a, {}});
    }
    s.user.receive_file();
    auto out = s.run(type, attributes, in);
    INFO((out.ok() ? "" : out.error().message));
    REQUIRE(out.ok());
    auto root = s.blob(out->response["containerimage.digest"]);
    if (!attested) return text_value(root["mediaType"]);
    auto statement = s.blob(text_value(root["manifests"][1]["digest"]));
    return text_value(root["mediaType"]) + " " + text_value(statement["config"]["mediaType"]) +
           (statement.contains("subject") ? " of" : "");
  };
  const std::string oci = "application/vnd.oci.image.manifest.v1+json",
                    docker = "application/vnd.docker.distribution.manifest.v2+json",
                    index = "application/vnd.oci.image.index.v1+json ",
                    config = "application/vnd.oci.image.config.v1+json",
                    artifact = "application/vnd.oci.empty.v1+json of";
  CHECK(types("image", 30, false) == oci);
  for (int old : {10, 20}) {
    CHECK(types("image", old, false) == docker);
    CHECK(types("docker", old, false) == docker);
    CHECK(types("oci", old, false) == oci);
    CHECK(types("image", old, false, {{"oci-mediatypes", "true"}}) == oci);
    CHECK(types("image", old, true) == index + config);
    CHECK(types("image", old, true, {{"oci-artifact", "true"}}) == index + artifact);
  }
  CHECK(types("image", 30, true) == index + artifact);
  auto in = s.input(s.two_layers());
  in.compatibility_version = 20;
  CHECK(s.run("image", {{"oci-artifact", "true"}}, in).error().message ==
        "exporter option \"oci-artifact=true\" conflicts with \"oci-mediatypes=false\"");
}

TEST_CASE("zstd is nothing for images like those of the first version, and clients can tell why") {
  setup s;
  for (auto type : {"image", "oci", "docker"}) {
    auto e = make_exporter(type, {{"compression", "zstd"}}, 0, s.resources()).value();
    CHECK(e->can_be_like(20).ok());
    auto no = e->can_be_like(10);
    REQUIRE_FALSE(no.ok());
    auto feature = std::string(type) + " exporter compression=zstd";
    CHECK(no.error().code == errc::unknown);
    CHECK(no.error().message == "unsupported compatibility-version 10 feature " + feature);
    REQUIRE(no.error().details.size() == 1);
    CHECK(no.error().details[0].type_url == "github.com/moby/buildkit/errdefs.CompatibilityFeature+json");
    CHECK(no.error().details[0].value == R"({"version":10,"feature":")" + feature + "\"}");
    CHECK(make_exporter(type, {}, 0, s.resources()).value()->can_be_like(10).ok());
  }
}

TEST_CASE("exports that need a client say so when there is none") {
  setup s;
  auto in = s.input({});
  in.session_id = "nobody";
  CHECK(s.run("local", {}, in).error().message == "no active session for nobody");
  in.session_id.clear();
  CHECK_FALSE(s.run("docker", {}, in).ok());
  CHECK(s.run("image", {}, in).ok());
}
