// The git source against git's own program and servers on loopback. The servers give out files: git's "dumb"
// protocol.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>
#include <list>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "base/base64.hpp"
#include "distribution/transport.hpp"
#include "ssh.pb.h"
#include "tests/support/stream_pair.hpp"
#include "tests/workers/git_fixture.hpp"
#include "workers/sources/git_reference.hpp"

using namespace kiln;
using test::http_answer;
using test::http_request;
using test::http_server;
using test::shell;
using setup = test::git_setup;
namespace fs = std::filesystem;

namespace {

/// The paths that were asked for with a header, and how many requests came without one.
struct witness {
  std::mutex mutex;
  std::vector<std::string> with;
  int without = 0;
  void see(const http_request& r) {
    std::lock_guard lock(mutex);
    if (r.header("authorization").empty()) ++without;
    else with.push_back(r.path + " " + r.header("authorization"));
  }
};

}  // namespace

TEST_CASE("a repository is checked out, with its .git when that is asked for") {
  setup s;
  s.repository("app", "echo hello > file");
  http_server server([&](const http_request& r) { return s.serve(r); });
  CHECK(s.checked_out(s.op(server.url() + "/app.git")) == "file");
  CHECK(s.checked_out(s.op(server.url() + "/app.git", {{"git.keepgitdir", "true"}})) == ".git file");
  // What git says is told, but not where the daemon keeps what.
  CHECK(s.progress.logs.find("\trefs/heads/main") != std::string::npos);
  CHECK(s.progress.logs.find((s.dir / "state").string()) == std::string::npos);
}

TEST_CASE("git's plain files may be written by everybody in builds like those of old") {
  setup s;
  s.repository("app", "echo hello > file && echo run > tool && chmod 755 tool");
  http_server server([&](const http_request& r) { return s.serve(r); });
  auto modes = [&](int version) {
    auto op = s.op(server.url() + "/app.git");
    workers::set_compatibility(*op.op.mutable_source(), version);
    auto refs = s.source->run(op, {}, s.job).value();
    auto m = store::mounted::make(*s.store, s.store->files().mounts(refs.at(0), s.job).value()).value();
    auto mode = [&](const char* name) {
      return static_cast<unsigned>(fs::status(m.path() / name).permissions());
    };
    return std::pair(mode("file"), mode("tool"));
  };
  CHECK(modes(30) == std::pair(0644u, 0755u));
  CHECK(modes(10) == std::pair(0666u, 0755u));
  CHECK(modes(20) == std::pair(0644u, 0755u));
}

TEST_CASE("an unknown git.mtime is taken, as elsewhere, and warned about") {
  setup s;
  s.repository("app", "echo hello > file");
  http_server server([&](const http_request& r) { return s.serve(r); });
  CHECK(s.checked_out(s.op(server.url() + "/app.git", {{"git.mtime", "moon"}})) == "file");
  REQUIRE(s.progress.warnings.size() == 1);
  CHECK(s.progress.warnings[0] == "git.mtime=moon is unknown: files have the time of their checkout");
}

TEST_CASE("within a build a branch stays where it was seen first") {
  setup s;
  s.repository("app", "echo one > one");
  http_server server([&](const http_request& r) { return s.serve(r); });
  auto op = s.op(server.url() + "/app.git");
  moby::buildkit::v1::frontend::ResolveSourceMetaRequest question;
  *question.mutable_source() = op.op.source();
  s.build = std::make_shared<workers::resolutions>();
  auto seen = s.source->resolve_meta(question, s.build, s.job)->git().checksum();
  shell("cd " + (s.dir / "tree-app").string() +
        " && echo two > two && git add -A && git commit -m two && git push " +
        (s.served / "app.git").string() + " main && git -C " + (s.served / "app.git").string() +
        " update-server-info");
  CHECK(s.source->resolve_meta(question, s.build, s.job)->git().checksum() == seen);
  CHECK(s.checked_out(op) == "one");
  s.build = std::make_shared<workers::resolutions>();
  CHECK(s.source->resolve_meta(question, s.build, s.job)->git().checksum() != seen);
  CHECK(s.checked_out(op) == "one two");
}

TEST_CASE("a repository leads git to no file of this machine") {
  setup s;
  s.repository("victim", "echo secret > secret");
  auto path = (s.served / "victim.git").string();
  for (auto url : {"file://" + path, path, std::string("file://localhost") + path}) {
    INFO(url);
    CHECK(s.checked_out(s.op(url)).find("secret") == std::string::npos);
  }
  http_server server([&](const http_request& r) { return s.serve(r); });
  auto with_submodule = [&](const std::string& name, const std::string& url) {
    s.repository(name, "git -c protocol.file.allow=always submodule add " + path +
                           " sub && git config -f .gitmodules "
                           "submodule.sub.url '" +
                           url + "' && echo x > file");
    return s.checked_out(s.op(server.url() + "/" + name + ".git"));
  };
  CHECK(with_submodule("by-url", "file://" + path).find("transport 'file' not allowed") != std::string::npos);
  CHECK(with_submodule("by-path", path).find("transport 'file' not allowed") != std::string::npos);
  CHECK(with_submodule("by-command", "ext::sh -c 'touch /tmp/kiln-pwned%'").find("not allowed") !=
        std::string::npos);
  CHECK_FALSE(fs::exists("/tmp/kiln-pwned"));
  CHECK(with_submodule("by-http", server.url() + "/victim.git") == ".gitmodules file sub");
}

TEST_CASE("a token goes to its host only: not to submodules elsewhere, not to where a server redirects") {
  setup s;
  s.secrets = {{"GIT_AUTH_TOKEN", "t0ken"}};
  s.repository("app", "echo x > file");
  auto expected = "basic " + base64_encode("x-access-token:t0ken");
  witness ours, theirs;
  http_server stranger([&](const http_request& r) {
    theirs.see(r);
    return s.serve(r);
  });

  SECTION("the host itself gets it") {
    http_server server([&](const http_request& r) {
      ours.see(r);
      if (r.header("authorization") != expected) return http_answer{401, {{"Www-Authenticate", "Basic"}}, ""};
      return s.serve(r);
    });
    CHECK(s.checked_out(s.op(server.url() + "/app.git")) == "file");
    CHECK(ours.without == 0);
  }
  SECTION("a redirect within the host is followed with it") {
    http_server server([&](const http_request& r) {
      ours.see(r);
      if (r.path.starts_with("/old.git"))
        return http_answer{301, {{"Location", "/app.git" + r.path.substr(8) + "?" + r.query}}, ""};
      if (r.header("authorization") != expected) return http_answer{401, {{"Www-Authenticate", "Basic"}}, ""};
      return s.serve(r);
    });
    CHECK(s.checked_out(s.op(server.url() + "/old.git")) == "file");
  }
  SECTION("a redirect to another host is followed without it") {
    http_server server([&](const http_request& r) {
      return http_answer{302, {{"Location", stranger.url() + r.target}}, ""};
    });
    CHECK(s.checked_out(s.op(server.url() + "/app.git")) == "file");
    CHECK(theirs.without > 1);
    CHECK(s.progress.warnings.at(0).find("redirects to another host") != std::string::npos);
  }
  SECTION("a submodule elsewhere does not get it") {
    http_server server([&](const http_request& r) { return s.serve(r); });
    s.repository("main",
                 "git -c protocol.file.allow=always submodule add " + (s.served / "app.git").string() +
                     " sub && git config -f .gitmodules submodule.sub.url " + stranger.url() + "/app.git");
    CHECK(s.checked_out(s.op(server.url() + "/main.git")) == ".gitmodules sub");
    CHECK(theirs.without > 1);
  }
  CHECK(theirs.with.empty());
}

TEST_CASE("a password in a repository's URL signs in, and is in no program's arguments and in no file") {
  setup s;
  s.repository("sub", "echo x > file");
  s.repository("app", "git -c protocol.file.allow=always submodule add " + (s.served / "sub.git").string() +
                          " sub && git config -f .gitmodules submodule.sub.url ../sub.git && echo x > file");
  auto expected = "basic " + base64_encode("user:pa:ss/word");
  std::atomic<int> seen_in_arguments{0};
  http_server server([&](const http_request& r) {
    for (const auto& process : fs::directory_iterator("/proc"))
      if (std::isdigit(static_cast<unsigned char>(process.path().filename().string()[0])) != 0)
        seen_in_arguments +=
            test::read_file(process.path() / "cmdline").find("ss%2Fword") != std::string::npos;
    if (r.header("authorization") != expected) return http_answer{401, {{"Www-Authenticate", "Basic"}}, ""};
    return s.serve(r);
  });
  auto url = "http://user:pa:ss%2Fword@" + server.host() + "/app.git";
  CHECK(s.checked_out(s.op(url)) == ".gitmodules file sub");
  CHECK(s.checked_out(s.op(url, {{"git.keepgitdir", "true"}})) == ".git .gitmodules file sub");
  CHECK(seen_in_arguments == 0);
  for (const auto& entry : fs::recursive_directory_iterator(s.dir / "state"))
    if (entry.is_regular_file()) {
      INFO(entry.path());
      CHECK(test::read_file(entry.path()).find("ss%2Fword") == std::string::npos);
    }
  // Others have no part in what was fetched with it.
  CHECK(s.checked_out(s.op("http://" + server.host() + "/app.git")).find("failed to fetch remote") !=
        std::string::npos);
}

TEST_CASE("a token is not sent in clear text, and none that would end the header") {
  setup s;
  s.secrets = {{"GIT_AUTH_TOKEN", "t0ken"}};
  // Nobody answers there; what matters is that the client is told why.
  auto r = s.source->cache_map(s.op("http://git.invalid/app.git"), 0, s.job);
  CHECK_FALSE(r.ok());
  REQUIRE(s.progress.warnings.size() == 1);
  CHECK(s.progress.warnings[0] == "git credentials are not sent to http://git.invalid: it is not https");
  s.secrets = {{"GIT_AUTH_HEADER", "x\r\nHost: y"}};
  r = s.source->cache_map(s.op("https://git.invalid/app.git", {{"git.authheadersecret", "GIT_AUTH_HEADER"}}),
                          0, s.job);
  CHECK(r.error().message.find("line break") != std::string::npos);
}

TEST_CASE("ssh gets neither the daemon's keys nor its known hosts, and a host cannot be an option") {
  setup s;
  auto bin = s.dir / "bin";
  fs::create_directories(bin);
  test::write_file(bin / "ssh",
                   "#!/bin/sh\nprintf '%s\\n' \"$*\" >> " + (s.dir / "calls").string() + "\nexit 1\n");
  fs::permissions(bin / "ssh", fs::perms(0755));
  std::string before = std::getenv("PATH");
  ::setenv("PATH", (bin.string() + ":" + before).c_str(), 1);
  CHECK_FALSE(s.source->cache_map(s.op("ssh://git@git.invalid/app.git"), 0, s.job).ok());
  CHECK_FALSE(s.source->cache_map(s.op("ssh://-oProxyCommand=touch/app.git"), 0, s.job).ok());
  ::setenv("PATH", before.c_str(), 1);
  auto calls = test::read_file(s.dir / "calls");
  CHECK(calls.find("-o IdentityFile=none") != std::string::npos);
  CHECK(calls.find("-o UserKnownHostsFile=/dev/null") != std::string::npos);
  CHECK(calls.find("ProxyCommand") == std::string::npos);
}

TEST_CASE("git's ssh reaches the client's agent, which is asked for where the source wants it") {
  using message = moby::sshforward::v1::BytesMessage;
  setup s;
  auto session = std::make_shared<test::fake_session>("client");
  std::string agent;
  session->on_call(
      "/moby.sshforward.v1.SSH/CheckAgent",
      [](std::string_view, const call_metadata&) -> result<std::string> { return std::string(); });
  std::list<std::thread> threads;
  session->on_open("/moby.sshforward.v1.SSH/ForwardAgent",
                   [&](const call_metadata& metadata) -> result<std::unique_ptr<message_stream>> {
                     agent = metadata.at(0).second;
                     auto [ours, theirs] = test::make_stream_pair();
                     threads.emplace_back([end = std::move(theirs)] {
                       std::string bytes;
                       message m;
                       if (end->read(bytes) && m.ParseFromString(bytes)) {
                         m.set_data("agent:" + m.data());
                         end->write(m.SerializeAsString());
                       }
                       end->writes_done();
                     });
                     return std::unique_ptr<message_stream>(std::move(ours));
                   });
  auto with_agent = [&](bool there) {
    test::fake_directory clients;
    clients.add(there ? session : std::make_shared<test::fake_session>("client"));
    auto job = clients.job();
    job.progress = &s.progress;
    return s.source->cache_map(s.op("ssh://git@git.invalid/app.git", {{"git.mountsshsock", "work"}}), 0, job);
  };
  auto bin = s.dir / "bin";
  fs::create_directories(bin);
  test::write_file(bin / "ssh",
                   "#!/bin/sh\nexec python3 -c 'import os, socket\n"
                   "s = socket.socket(socket.AF_UNIX); s.connect(os.environ[\"SSH_AUTH_SOCK\"])\n"
                   "s.sendall(b\"ping\"); open(\"" +
                       (s.dir / "heard").string() + "\", \"wb\").write(s.recv(99))'\n");
  fs::permissions(bin / "ssh", fs::perms(0755));
  std::string before = std::getenv("PATH");
  ::setenv("PATH", (bin.string() + ":" + before).c_str(), 1);
  CHECK_FALSE(with_agent(true).ok());  // it is no ssh, after all
  ::setenv("PATH", before.c_str(), 1);
  CHECK(test::read_file(s.dir / "heard") == "agent:ping");
  CHECK(agent == "work");
  for (auto& t : threads) t.join();
  CHECK(with_agent(false).error().message == "no SSH key \"work\" forwarded from the client");
}

TEST_CASE("what an earlier commit said of a submodule's place does not count for a later one") {
  setup s;
  s.repository("sub", "echo x > file");
  http_server server([&](const http_request& r) { return s.serve(r); });
  http_server gone([](const http_request&) { return http_answer{404, {}, ""}; });
  s.repository("app", "git -c protocol.file.allow=always submodule add " + (s.served / "sub.git").string() +
                          " sub && git config -f .gitmodules submodule.sub.url " + gone.url() + "/sub.git");
  CHECK(s.checked_out(s.op(server.url() + "/app.git")).find("failed to update submodules") !=
        std::string::npos);
  auto tree = (s.dir / "tree-app").string(), bare = (s.served / "app.git").string();
  shell("cd " + tree + " && git config -f .gitmodules submodule.sub.url " + server.url() +
        "/sub.git && git commit -am later && git push " + bare + " main && git -C " + bare +
        " update-server-info");
  auto later = s.op(server.url() + "/app.git");
  later.vertex = "sha256:later";
  CHECK(s.checked_out(later) == ".gitmodules sub");
}
