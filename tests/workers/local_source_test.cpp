// The local source against a client that sends a directory, over in-memory streams.
#include "filesync/sender.hpp"
#include "tests/workers/worker_fixture.hpp"
#include "wire.pb.h"
#include "workers/sources/header_values.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

struct local_fixture : worker_fixture {
  temp_dir context;
  call_metadata asked;
  std::atomic<int> transfers{0};

  local_fixture() {
    client.streams["/moby.filesync.v1.FileSync/DiffCopy"] = [this](message_stream& s,
                                                                   const call_metadata& metadata) {
      ++transfers;
      asked = metadata;
      filesync::walk_options walk;
      for (const auto& [key, value] : metadata) {
        if (key == "include-patterns") walk.include_patterns.push_back(value);
        if (key == "exclude-patterns") walk.exclude_patterns.push_back(value);
        if (key == "followpaths") walk.follow_paths.push_back(value);
      }
      auto tree = filesync::open_directory(context.path().string(), walk);
      if (!tree || !filesync::send(s, **tree)) return;  // the receiver tells what went wrong
      s.writes_done();
    };
  }
  workers::op_request local(const std::map<std::string, std::string>& attributes = {}) {
    workers::op_request r;
    r.op.mutable_source()->set_identifier("local://context");
    for (const auto& [k, v] : attributes) (*r.op.mutable_source()->mutable_attrs())[k] = v;
    return r;
  }
  std::string read(const store::ref& r, const std::string& name) {
    std::string text;
    in_ref(r, [&](const fs::path& p) { text = fs::exists(p / name) ? read_file(p / name) : "<none>"; });
    return text;
  }
};

}  // namespace

TEST_CASE_METHOD(
    local_fixture,
    "a second build of a directory transfers what changed, and the first one's ref stays as it was") {
  write_file(context / "same", std::string(300'000, 's'));
  write_file(context / "changes", "one");
  write_file(context / "goes", "x");
  auto first = run(local(), {});
  REQUIRE(first.ok());
  CHECK(read((*first)[0], "changes") == "one");
  CHECK(sink.statuses.at("transferring context:") > 300'000);

  write_file(context / "changes", "two!");
  fs::remove(context / "goes");
  sink.statuses.clear();
  auto second = run(local(), {});
  REQUIRE(second.ok());
  CHECK(sink.statuses.at("transferring context:") < 10'000);
  CHECK(read((*second)[0], "changes") == "two!");
  CHECK(read((*second)[0], "goes") == "<none>");
  CHECK(read((*second)[0], "same").size() == 300'000);
  CHECK(read((*first)[0], "changes") == "one");
  CHECK(read((*first)[0], "goes") == "x");
  CHECK(mounts_left() == 0);
}

TEST_CASE_METHOD(local_fixture, "patterns go to the client as headers, escaped when they are not ASCII") {
  write_file(context / "a/x", "x");
  write_file(context / "b/y", "y");
  auto out =
      run(local({{"local.includepattern", "[\"a\"]"}, {"local.excludepatterns", "[\"n\u00f6\"]"}}), {});
  REQUIRE(out.ok());
  CHECK(read((*out)[0], "a/x") == "x");
  CHECK(read((*out)[0], "b/y") == "<none>");
  auto has = [&](const std::string& k, const std::string& v) {
    return std::find(asked.begin(), asked.end(), std::pair{k, v}) != asked.end();
  };
  CHECK(has("dir-name", "context"));
  CHECK(has("include-patterns", "a"));
  CHECK(has("exclude-patterns", "n%C3%B6"));
  CHECK(has("exclude-patterns-encoded", "1"));
  CHECK(!has("include-patterns-encoded", "1"));
}

TEST_CASE_METHOD(local_fixture, "a metadata-only transfer keeps the exceptions and the list") {
  write_file(context / "big", "big");
  write_file(context / "Dockerfile", "FROM scratch");
  auto out = run(
      local({{"local.metadatatransfer", "true"}, {"local.metadatatransferexclude", "[\"Dockerfile\"]"}}), {});
  REQUIRE(out.ok());
  CHECK(read((*out)[0], "Dockerfile") == "FROM scratch");
  CHECK(read((*out)[0], "big") == "<none>");
  CHECK(read((*out)[0], ".fsutil-metadata").find("big") != std::string::npos);
}

TEST_CASE_METHOD(local_fixture,
                 "a directory nobody shares, bad attributes and missing sessions are told apart") {
  auto handler = registry->handler(local().op);
  REQUIRE(handler.ok());
  auto key = (*handler)->cache_map(local(), 0, job());
  REQUIRE(key.ok());
  CHECK(key->op_digest.algorithm() == "random");
  CHECK((*handler)->cache_map(local({{"local.excludepatterns", "[\"x\"]"}}), 0, job())->op_digest !=
        key->op_digest);

  auto bad = (*handler)->cache_map(local({{"local.includepattern", "{"}}), 0, job());
  REQUIRE(!bad.ok());
  CHECK(bad.error().code == errc::invalid_argument);

  job_context nobody = job();
  nobody.sessions.ids.clear();
  auto none = (*handler)->cache_map(local(), 0, nobody);
  REQUIRE(!none.ok());
  CHECK(none.error().message == "could not access local files without session");

  client.streams.clear();
  auto refused = run(local(), {});
  REQUIRE(!refused.ok());
  CHECK(refused.error().message.find("no local sources enabled") != std::string::npos);
}

TEST_CASE_METHOD(local_fixture, "an unchanged directory gives the ref an earlier build had") {
  write_file(context / "a/file", "one");
  fs::create_symlink("file", context / "a/link");
  auto first = run(local(), {});
  REQUIRE(first.ok());
  auto second = run(local(), {});
  REQUIRE(second.ok());
  CHECK((*second)[0].id() == (*first)[0].id());

  SECTION("and another one as soon as a file changes") {
    write_file(context / "a/file", "two");
    auto third = run(local(), {});
    REQUIRE(third.ok());
    CHECK((*third)[0].id() != (*first)[0].id());
    CHECK(read((*first)[0], "a/file") == "one");
    CHECK(read((*third)[0], "a/file") == "two");
  }
  SECTION("or a name goes") {
    fs::remove(context / "a/link");
    auto third = run(local(), {});
    REQUIRE(third.ok());
    CHECK((*third)[0].id() != (*first)[0].id());
  }
}

TEST_CASE_METHOD(local_fixture,
                 "a transfer that fails leaves nothing; one that was cut off is gone on with") {
  using packet = fsutil::types::Packet;
  write_file(context / "first", std::string(100'000, 'x'));
  write_file(context / "second", "y");
  auto kept = [&] {
    std::int64_t bytes = 0;
    auto usage = refs->space().disk_usage({});
    REQUIRE(usage.ok());
    for (const auto& u : *usage)
      if (u.description.starts_with("local source")) bytes += std::max<std::int64_t>(u.size, 1);
    return bytes;
  };
  // Sends all that is asked for but `second`, then says why not, or nothing at all.
  auto break_off = [&](const std::string& complaint) {
    client.streams["/moby.filesync.v1.FileSync/DiffCopy"] = [this, complaint](message_stream& s,
                                                                              const call_metadata&) {
      packet p;
      for (const char* name : {"first", "second"}) {
        p.Clear();
        p.set_type(packet::PACKET_STAT);
        p.mutable_stat()->set_path(name);
        p.mutable_stat()->set_mode(0644);
        p.mutable_stat()->set_size(static_cast<std::int64_t>(fs::file_size(context / name)));
        s.write(p.SerializeAsString());
      }
      p.Clear();
      p.set_type(packet::PACKET_STAT);
      s.write(p.SerializeAsString());
      std::string bytes;
      for (int asked = 0; asked < 2 && s.read(bytes); ++asked) {
      }
      p.Clear();
      p.set_type(packet::PACKET_DATA);
      p.set_data(read_file(context / "first"));
      s.write(p.SerializeAsString());
      p.clear_data();
      s.write(p.SerializeAsString());
      if (complaint.empty()) return s.writes_done();
      p.set_type(packet::PACKET_ERR);
      p.set_data(complaint);
      s.write(p.SerializeAsString());
      while (s.read(bytes)) {
      }
    };
  };
  auto good = client.streams["/moby.filesync.v1.FileSync/DiffCopy"];

  break_off("open second: permission denied");
  auto failed = run(local(), {});
  REQUIRE(!failed.ok());
  CHECK(failed.error().message.find("permission denied") != std::string::npos);
  CHECK(kept() == 0);

  break_off("");
  failed = run(local(), {});
  REQUIRE(!failed.ok());
  CHECK(failed.error().code == errc::unavailable);
  CHECK(kept() >= 100'000);
  client.streams["/moby.filesync.v1.FileSync/DiffCopy"] = good;
  auto whole = run(local(), {});
  REQUIRE(whole.ok());
  CHECK(read((*whole)[0], "second") == "y");
  CHECK(read((*whole)[0], "first") == std::string(100'000, 'x'));
}
