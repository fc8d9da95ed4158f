// Exec ops in real containers over a busybox root.
#include "tests/workers/worker_fixture.hpp"

#include <atomic>
#include <chrono>
#include <future>
#include <list>
#include <memory>

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/json_text.hpp"
#include "configs/ssh.hpp"
#include "secrets.pb.h"
#include "ssh.pb.h"
#include "workers/client_container.hpp"
#include "workers/ops/client_secrets.hpp"

using namespace kiln;
using namespace kiln::test;
using clock_type = std::chrono::steady_clock;

TEST_CASE_METHOD(worker_fixture, "a step's output is what it wrote, and nothing else is left of it") {
  store::ref root = busybox();
  auto out = run(shell("echo hello > /made; echo to-out; echo to-err >&2; mkdir -p /a/b"), {root});
  REQUIRE(out.ok());
  REQUIRE(out->size() == 1);
  CHECK(sink.out() == "to-out\n");
  CHECK(sink.err() == "to-err\n");
  in_ref(out->front(), [](const fs::path& p) {
    CHECK(read_file(p / "made") == "hello\n");
    CHECK(fs::is_directory(p / "a/b"));
    // Mount points the run needed are cleaned.
    CHECK(!fs::exists(p / "etc/resolv.conf"));
    CHECK(!fs::exists(p / "etc/hosts"));
  });
  in_ref(root, [](const fs::path& p) { CHECK(!fs::exists(p / "made")); });
  CHECK(mounts_left() == 0);
  CHECK(cgroups_left() == 0);
  CHECK(fs::is_empty(dir.path() / "state/executor/containers"));
  CHECK(fs::is_empty(dir.path() / "state/executor/runtime"));
}

TEST_CASE_METHOD(worker_fixture, "a failing step tells its exit code in words and as a detail") {
  store::ref root = busybox();
  auto out = run(shell("exit 3"), {root});
  REQUIRE(!out.ok());
  CHECK(out.error().message == "process \"/bin/sh -c exit 3\" did not complete successfully: exit code: 3");
  REQUIRE(out.error().details.size() == 1);
  CHECK(out.error().details[0].type_url == "github.com/moby/buildkit/gatewayapi.ExitMessage+json");
  CHECK(out.error().details[0].value == "{\"Code\":3}");
  CHECK(cgroups_left() == 0);
  CHECK(mounts_left() == 0);

  SECTION("other codes can be declared valid") {
    auto r = shell("exit 3");
    r.op.mutable_exec()->mutable_meta()->add_validexitcodes(3);
    CHECK(run(r, {root}).ok());
    auto zero = shell("exit 0");
    zero.op.mutable_exec()->mutable_meta()->add_validexitcodes(3);
    CHECK(!run(zero, {root}).ok());
  }
  SECTION("a signal is 128 and its number") {
    auto killed = run(shell("sh -c 'kill -9 $$'; exit $?"), {root});
    REQUIRE(!killed.ok());
    CHECK(killed.error().message.ends_with("exit code: 137"));
  }
  SECTION("a program that is not there is said so in the log") {
    auto r = shell("");
    r.op.mutable_exec()->mutable_meta()->clear_args();
    r.op.mutable_exec()->mutable_meta()->add_args("/no/such");
    auto missing = run(r, {root});
    REQUIRE(!missing.ok());
    CHECK(missing.error().message.starts_with(
        "process \"/no/such\" did not complete successfully: exit code: "));
    CHECK(sink.err().find("/no/such") != std::string::npos);
  }
}

TEST_CASE_METHOD(worker_fixture, "a failing step leaves one ref a mount, with what it wrote") {
  store::ref root = busybox();
  store::ref given = make_ref([](const fs::path& p) { write_file(p / "foo", "given"); });
  auto r = shell("echo 1 > /data; echo 2 > /rw/data; echo 3 > /scratch/data; exit 1");
  add_mount(r, pb::BIND, "/rw")->set_input(1);
  add_mount(r, pb::BIND, "/scratch")->set_output(1);
  auto* fixed = add_mount(r, pb::BIND, "/fixed");
  fixed->set_input(1);
  fixed->set_readonly(true);
  add_mount(r, pb::TMPFS, "/tmpfs");
  {
    workers::failure_snapshot left;
    r.left = &left;
    REQUIRE(!run(r, {root, given}).ok());
    CHECK(mounts_left() == 0);
    REQUIRE(left.any);
    REQUIRE(left.inputs.size() == 5);
    REQUIRE(left.mounts.size() == 5);
    CHECK(left.inputs[0].id() == root.id());
    CHECK(left.inputs[1].id() == given.id());
    CHECK(!left.inputs[2]);
    in_ref(left.mounts[0], [](const fs::path& p) { CHECK(read_file(p / "data") == "1\n"); });
    in_ref(left.mounts[1], [](const fs::path& p) {
      CHECK(read_file(p / "data") == "2\n");
      CHECK(read_file(p / "foo") == "given");
    });
    in_ref(left.mounts[2], [](const fs::path& p) { CHECK(read_file(p / "data") == "3\n"); });
    CHECK(left.mounts[3].id() == given.id());
    CHECK(!left.mounts[4]);
  }
  // Nothing of it stays.
  auto usage = refs->space().disk_usage({});
  REQUIRE(usage.ok());
  CHECK(usage->size() == 2);
  SECTION("a step that succeeds leaves nothing of the kind") {
    workers::failure_snapshot left;
    auto good = shell("true");
    good.left = &left;
    CHECK(run(good, {root}).ok());
    CHECK(!left.any);
  }
}

TEST_CASE_METHOD(worker_fixture, "a failing file op leaves what its actions made until then") {
  store::ref base = make_ref([](const fs::path& p) { write_file(p / "base", "b"); });
  workers::op_request r;
  r.vertex = "sha256:test";
  auto add = [&](std::int64_t input, std::int64_t secondary, std::int64_t output) {
    auto* a = r.op.mutable_file()->add_actions();
    a->set_input(input);
    a->set_secondaryinput(secondary);
    a->set_output(output);
    return a;
  };
  auto made = [](pb::FileAction* a, const std::string& path) {
    a->mutable_mkfile()->set_path(path);
    a->mutable_mkfile()->set_data("data");
    a->mutable_mkfile()->set_mode(0644);
    a->mutable_mkfile()->set_timestamp(-1);
  };
  workers::failure_snapshot left;
  r.left = &left;
  SECTION("in the snapshot they share") {
    made(add(0, -1, -1), "/found");
    made(add(1, -1, 0), "/notfound/foo");
    REQUIRE(!run(r, {base}).ok());
    REQUIRE(left.any);
    CHECK(left.action == 1);
    REQUIRE(left.inputs.size() == 1);
    CHECK(left.inputs[0].id() == base.id());
    REQUIRE(left.mounts.size() == 2);
    CHECK(!left.mounts[0]);
    in_ref(left.mounts[1], [](const fs::path& p) {
      CHECK(read_file(p / "base") == "b");
      CHECK(read_file(p / "found") == "data");
    });
  }
  SECTION("and in the snapshot they copied from") {
    made(add(-1, -1, -1), "/from");
    auto* copy = add(0, 1, 0)->mutable_copy();
    copy->set_src("/from");
    copy->set_dest("/notfound/to");
    copy->set_mode(-1);
    copy->set_timestamp(-1);
    REQUIRE(!run(r, {base}).ok());
    REQUIRE(left.any);
    CHECK(left.action == 1);
    REQUIRE(left.mounts.size() == 2);
    in_ref(left.mounts[0], [](const fs::path& p) { CHECK(read_file(p / "from") == "data"); });
    in_ref(left.mounts[1], [](const fs::path& p) { CHECK(read_file(p / "base") == "b"); });
  }
}

TEST_CASE_METHOD(worker_fixture, "user, groups, directory, environment and host name are as asked") {
  store::ref root = busybox();
  auto r = shell(
      "id -u; id -g; id -G; pwd; echo $PATH; echo $X; hostname; cat /etc/hosts; umask; echo $http_proxy "
      "$HTTP_PROXY");
  auto* meta = r.op.mutable_exec()->mutable_meta();
  meta->set_user("build");
  meta->set_cwd("/work/deep");
  meta->add_env("X=a b");
  meta->mutable_proxy_env()->set_http_proxy("p:1");
  auto* host = meta->add_extrahosts();
  host->set_host("db");
  host->set_ip("10.1.2.3");
  auto out = run(r, {root});
  REQUIRE(out.ok());
  CHECK(
      sink.out() ==
      "1000\n1001\n1001 2000\n/work/deep\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\na b\n"
      "buildkitsandbox\n127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n"
      "10.1.2.3\tdb\n0022\np:1 p:1\n");
  in_ref(out->front(), [](const fs::path& p) {
    struct stat st {};
    REQUIRE(::stat((p / "work/deep").c_str(), &st) == 0);
    CHECK((st.st_uid == 1000 && st.st_gid == 1001 && (st.st_mode & 07777) == 0755));
  });
  SECTION("unknown users are refused by name") {
    meta->set_user("nobody");
    auto bad = run(r, {root});
    REQUIRE(!bad.ok());
    CHECK(bad.error().message.ends_with(": unable to find user nobody: no matching entries in passwd file"));
  }
}

TEST_CASE_METHOD(worker_fixture, "the sandbox keeps its walls") {
  store::ref root = busybox();
  auto r = shell(
      "cat /proc/self/status | grep -E 'CapEff|CapBnd|Seccomp:|NoNewPrivs'; mount -t tmpfs x /tmp && echo "
      "mounted; "
      "echo 1 > /proc/sys/kernel/panic && echo wrote; ls /proc/acpi 2>/dev/null | wc -l; echo $$; ip link | "
      "grep -c mtu");
  r.op.mutable_exec()->set_network(pb::NONE);
  auto out = run(r, {root});
  REQUIRE(out.ok());
  INFO(sink.out());
  CHECK(sink.out().find("CapEff:\t00000000a80425fb") != std::string::npos);
  CHECK(sink.out().find("Seccomp:\t2") != std::string::npos);
  CHECK(sink.out().find("mounted") == std::string::npos);
  CHECK(sink.out().find("wrote") == std::string::npos);
  CHECK(sink.out().ends_with("0\n1\n1\n"));

  SECTION("insecure mode takes them down") {
    sink.text[1].clear();
    auto insecure =
        shell("mount -t tmpfs x /tmp && echo mounted; ls /dev/fuse; cat /proc/self/status | grep Seccomp:");
    insecure.op.mutable_exec()->set_security(pb::INSECURE);
    auto ran = run(insecure, {root});
    INFO(sink.err());
    REQUIRE(ran.ok());
    CHECK(sink.out() == "mounted\n/dev/fuse\nSeccomp:\t0\n");
  }
}

TEST_CASE_METHOD(worker_fixture, "bind mounts: selectors, read-only, outputs and throw-away copies") {
  store::ref root = busybox();
  store::ref data = make_ref([](const fs::path& p) {
    write_file(p / "sub/file", "content\n");
    fs::create_symlink("/sub", p / "to-sub");
    fs::create_symlink("/../../etc", p / "escape");
  });
  SECTION("a selector through a link, read-only") {
    auto r = shell("cat /in/file; touch /in/x 2>/dev/null && echo wrote; ls /deep/in");
    auto* m = add_mount(r, pb::BIND, "/in");
    m->set_input(1);
    m->set_selector("to-sub");
    m->set_readonly(true);
    auto* f = add_mount(r, pb::BIND, "deep/in");  // relative to the working directory
    f->set_input(1);
    f->set_selector("/sub/file");
    f->set_readonly(true);
    auto out = run(r, {root, data});
    INFO(sink.err());
    REQUIRE(out.ok());
    CHECK(sink.out() == "content\n/deep/in\n");
    in_ref(out->front(), [](const fs::path& p) {
      CHECK(!fs::exists(p / "in"));
      CHECK(fs::exists(p / "deep"));  // only the mount point itself is a stub…
    });
  }
  SECTION("…unless stubs are removed recursively") {
    auto r = shell("true");
    r.op.mutable_exec()->mutable_meta()->set_removemountstubsrecursive(true);
    add_mount(r, pb::TMPFS, "/deep/er/in");
    auto out = run(r, {root});
    REQUIRE(out.ok());
    in_ref(out->front(), [](const fs::path& p) { CHECK(!fs::exists(p / "deep")); });
  }
  SECTION("a selector cannot leave its input") {
    auto r = shell("cat /in/passwd");
    auto* m = add_mount(r, pb::BIND, "/in");
    m->set_input(1);
    m->set_selector("escape");
    m->set_readonly(true);
    auto out = run(r, {root, data});
    REQUIRE(!out.ok());
    CHECK(out.error().message.find("escape") != std::string::npos);
  }
  SECTION("written without output is thrown away, with output is kept beside the root's") {
    auto r = shell("echo new > /keep/new; echo new > /lose/new; cat /keep/sub/file");
    auto* keep = add_mount(r, pb::BIND, "/keep");
    keep->set_input(1);
    keep->set_output(1);
    auto* lose = add_mount(r, pb::BIND, "/lose");
    lose->set_input(1);
    auto out = run(r, {root, data});
    INFO(sink.err());
    REQUIRE(out.ok());
    REQUIRE(out->size() == 2);
    in_ref((*out)[1], [](const fs::path& p) { CHECK(read_file(p / "new") == "new\n"); });
    in_ref(data, [](const fs::path& p) { CHECK(!fs::exists(p / "new")); });
  }
  SECTION("read-only with output passes the input through") {
    auto r = shell("true");
    auto* m = add_mount(r, pb::BIND, "/in");
    m->set_input(1);
    m->set_readonly(true);
    m->set_output(1);
    auto out = run(r, {root, data});
    REQUIRE(out.ok());
    CHECK((*out)[1].id() == data.id());
  }
  SECTION("a read-only root cannot be written to") {
    auto r = shell("touch /x");
    r.op.mutable_exec()->mutable_mounts(0)->set_readonly(true);
    CHECK(!run(r, {root}).ok());
  }
  SECTION("tmpfs has the size asked for") {
    auto r = shell("dd if=/dev/zero of=/t/f bs=1M count=2 2>/dev/null || echo full");
    add_mount(r, pb::TMPFS, "/t")->mutable_tmpfsopt()->set_size(1 << 20);
    REQUIRE(run(r, {root}).ok());
    CHECK(sink.out() == "full\n");
  }
  CHECK(mounts_left() == 0);
}

TEST_CASE_METHOD(worker_fixture, "cache mounts keep what was written, by id, and share as asked") {
  store::ref root = busybox();
  auto with_cache = [&](const std::string& script, const std::string& id, pb::CacheSharingOpt sharing) {
    auto r = shell(script);
    auto* m = add_mount(r, pb::CACHE, "/cache");
    m->mutable_cacheopt()->set_id(id);
    m->mutable_cacheopt()->set_sharing(sharing);
    return r;
  };
  REQUIRE(run(with_cache("echo one > /cache/f", "a", pb::SHARED), {root}).ok());
  REQUIRE(run(with_cache("cat /cache/f; ls /cache | wc -l", "a", pb::LOCKED), {root}).ok());
  REQUIRE(run(with_cache("ls /cache | wc -l", "b", pb::SHARED), {root}).ok());
  CHECK(sink.out() == "one\n1\n0\n");

  SECTION("a private user gets a copy of its own while another is at it, a locked one waits") {
    sink.text[1].clear();
    auto held = resources->cache_mounts->acquire("a", pb::PRIVATE, {}, "held", job());
    REQUIRE(held.ok());
    REQUIRE(run(with_cache("ls /cache | wc -l", "a", pb::PRIVATE), {root}).ok());
    CHECK(sink.out() == "0\n");
    std::atomic<bool> done{false};
    std::thread waiter([&] {
      auto locked = resources->cache_mounts->acquire("a", pb::LOCKED, {}, "locked", job());
      CHECK(locked.ok());
      done = true;
    });
    CHECK(!done);
    held->reset();
    waiter.join();
    CHECK(done);
  }
  SECTION("waiting ends with the build") {
    auto held = resources->cache_mounts->acquire("a", pb::LOCKED, {}, "held", job());
    std::thread canceller([&] { stop.request_stop(); });
    auto second = resources->cache_mounts->acquire("a", pb::LOCKED, {}, "second", job());
    canceller.join();
    REQUIRE(!second.ok());
    CHECK(second.error().code == errc::cancelled);
  }
  SECTION("shared users see one directory at the same time") {
    auto one = resources->cache_mounts->acquire("a", pb::SHARED, {}, "1", job());
    auto two = resources->cache_mounts->acquire("a", pb::SHARED, {}, "2", job());
    REQUIRE(two.ok());
    CHECK((*one)->path() == (*two)->path());
  }
  SECTION("a detached cache is kept by those who have it, is empty for others, and goes with its last user") {
    auto caches = [&] {
      std::vector<std::string> ids;
      auto used = refs->space().disk_usage({"type==exec.cachemount,description~=\"id .a.\""});
      REQUIRE(used.ok());
      for (const auto& u : *used) ids.push_back(u.id);
      return ids;
    };
    auto held = resources->cache_mounts->acquire("a", pb::SHARED, {}, "with id \"a\"", job());
    REQUIRE(held.ok());
    auto before = caches();
    REQUIRE(before.size() == 1);
    REQUIRE(resources->cache_mounts->detach("a").ok());
    CHECK(fs::exists((*held)->path() / "f"));
    sink.text[1].clear();
    for (auto sharing : {pb::SHARED, pb::LOCKED, pb::PRIVATE})
      REQUIRE(run(with_cache("ls /cache; echo > /cache/new", "a", sharing), {root}).ok());
    CHECK(sink.out() == "new\nnew\n");
    CHECK(caches().size() == 2);
    held->reset();
    auto after = caches();
    REQUIRE(after.size() == 1);
    CHECK(after != before);
    // Also for a daemon that is started anew.
    workers::cache_mounts next(*refs);
    auto again = next.acquire("a", pb::SHARED, {}, "again", job());
    REQUIRE(again.ok());
    CHECK(fs::exists((*again)->path() / "new"));
    // What nobody has is none of its business.
    REQUIRE(resources->cache_mounts->detach("b").ok());
  }
  CHECK(mounts_left() == 0);
}

TEST_CASE_METHOD(worker_fixture,
                 "secrets come from the client as files and variables, and stay out of the result") {
  store::ref root = busybox();
  client.calls["/moby.buildkit.secrets.v1.Secrets/GetSecret"] =
      [](const std::string& bytes) -> result<std::string> {
    moby::buildkit::secrets::v1::GetSecretRequest request;
    request.ParseFromString(bytes);
    if (request.id() != "token") return make_error(errc::not_found, "secret " + request.id() + ": not found");
    moby::buildkit::secrets::v1::GetSecretResponse response;
    response.set_data("s3cret");
    return response.SerializeAsString();
  };
  auto r =
      shell("cat /run/secrets/token; stat -c ' %u:%g %a' /run/secrets/token; echo $TOKEN; echo \"[$NONE]\"");
  auto* m = add_mount(r, pb::SECRET, "/run/secrets/token");
  m->mutable_secretopt()->set_id("token");
  m->mutable_secretopt()->set_uid(5);
  m->mutable_secretopt()->set_gid(6);
  m->mutable_secretopt()->set_mode(0440);
  auto* env = r.op.mutable_exec()->add_secretenv();
  env->set_id("token");
  env->set_name("TOKEN");
  auto* none = r.op.mutable_exec()->add_secretenv();
  none->set_id("missing");
  none->set_name("NONE");
  none->set_optional(true);
  auto* skipped = add_mount(r, pb::SECRET, "/run/secrets/other");
  skipped->mutable_secretopt()->set_id("missing");
  skipped->mutable_secretopt()->set_optional(true);
  auto out = run(r, {root});
  INFO(sink.err());
  REQUIRE(out.ok());
  CHECK(sink.out() == "s3cret 5:6 440\ns3cret\n[]\n");
  in_ref(out->front(), [](const fs::path& p) { CHECK(!fs::exists(p / "run/secrets/token")); });

  skipped->mutable_secretopt()->set_optional(false);
  auto missing = run(r, {root});
  REQUIRE(!missing.ok());
  CHECK(missing.error().message == "secret missing: not found");
  CHECK(missing.error().code == errc::not_found);
  CHECK(mounts_left() == 0);
}

TEST_CASE_METHOD(worker_fixture, "an SSH mount reaches the client's agent") {
  using message = moby::sshforward::v1::BytesMessage;
  store::ref root = busybox();
  std::string asked;
  client.calls["/moby.sshforward.v1.SSH/CheckAgent"] = [](const std::string&) -> result<std::string> {
    return std::string();
  };
  client.streams["/moby.sshforward.v1.SSH/ForwardAgent"] = [&](message_stream& s,
                                                               const call_metadata& metadata) {
    for (const auto& [k, v] : metadata) asked += k + "=" + v;
    std::string bytes;
    message m;
    while (s.read(bytes)) {
      m.ParseFromString(bytes);
      m.set_data("agent:" + m.data());
      s.write(m.SerializeAsString());
    }
    s.writes_done();
  };
  auto r = shell("stat -c '%u %a %F' $SSH_AUTH_SOCK");
  r.op.mutable_exec()->mutable_meta()->add_env("SSH_AUTH_SOCK=/run/ssh");
  auto* m = add_mount(r, pb::SSH, "/run/ssh");
  m->mutable_sshopt()->set_id("work");
  m->mutable_sshopt()->set_uid(7);
  m->mutable_sshopt()->set_mode(0600);
  REQUIRE(run(r, {root}).ok());
  CHECK(sink.out() == "7 600 socket\n");
  {
    fs::create_directories(dir / "sock");
    auto socket = workers::ssh_socket::open(m->sshopt(), (dir / "sock").string(), job());
    REQUIRE(socket.ok());
    unique_fd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    (*socket)->path().copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::write(fd.get(), "ping", 4) == 4);
    ::shutdown(fd.get(), SHUT_WR);
    std::string got;
    char c = 0;
    while (::read(fd.get(), &c, 1) == 1) got += c;
    CHECK(got == "agent:ping");
    CHECK(asked == "buildkit.ssh.id=work");
  }
  CHECK(!fs::exists(dir / "sock"));
  client.calls.clear();
  auto refused = run(r, {root});
  REQUIRE(!refused.ok());
  CHECK(refused.error().message == "no SSH key \"work\" forwarded from the client");
  CHECK(mounts_left() == 0);
}

TEST_CASE_METHOD(
    worker_fixture,
    "an agent's socket serves so many connections at a time, the others after them, with so many threads") {
  using message = moby::sshforward::v1::BytesMessage;
  client.calls["/moby.sshforward.v1.SSH/CheckAgent"] = [](const std::string&) -> result<std::string> {
    return std::string();
  };
  std::atomic<int> served{0};
  client.streams["/moby.sshforward.v1.SSH/ForwardAgent"] = [&](message_stream& s, const call_metadata&) {
    ++served;
    std::string bytes;
    message m;
    while (s.read(bytes)) {
      m.ParseFromString(bytes);
      s.write(m.SerializeAsString());
    }
    s.writes_done();
  };
  auto threads = [] {
    return std::distance(fs::directory_iterator("/proc/self/task"), fs::directory_iterator{});
  };
  fs::create_directories(dir / "many");
  pb::SSHOpt options;
  options.set_mode(0600);
  auto before = threads();
  auto socket = workers::ssh_socket::open(options, (dir / "many").string(), job());
  REQUIRE(socket.ok());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (*socket)->path().copy(address.sun_path, sizeof address.sun_path - 1);
  std::list<unique_fd> waiting;
  auto connect = [&] {
    unique_fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return false;
    waiting.push_back(std::move(fd));
    return true;
  };
  // As many as there is room for: 16,000 of them ended the daemon once.
  while (waiting.size() < 16'000 && connect()) continue;
  CHECK(waiting.size() >= configs::ssh_connections_max);
  CHECK(waiting.size() < 16'000);
  // Each is served in its turn.
  int answered = 0;
  for (auto& fd : waiting) {
    ::fcntl(fd.get(), F_SETFL, 0);
    CHECK(::send(fd.get(), "ping", 4, MSG_NOSIGNAL) == 4);
    char answer[4];
    if (::recv(fd.get(), answer, 4, MSG_WAITALL) == 4) ++answered;
    // The fake client has a thread a stream, which is not counted once it serves.
    CHECK(threads() - before - served <= static_cast<std::ptrdiff_t>(3 * configs::ssh_connections_max + 1));
    fd.reset();
  }
  CHECK(answered == static_cast<int>(waiting.size()));
}

TEST_CASE_METHOD(worker_fixture, "cancelling kills everything in the container at once", "[time]") {
  store::ref root = busybox();
  sink.on_log = [&](std::string_view) { stop.request_stop(); };
  auto begin = clock_type::now();
  auto out = run(shell("(sleep 1000 & sleep 1001 &) ; echo up; sleep 1002"), {root});
  REQUIRE(!out.ok());
  CHECK(out.error().code == errc::cancelled);
  CHECK(clock_type::now() - begin < std::chrono::seconds(4));
  CHECK(cgroups_left() == 0);
  CHECK(mounts_left() == 0);
  for (const auto& e : fs::directory_iterator("/proc")) {
    CHECK(read_file(e.path() / "cmdline").find(std::string("sleep\0") + "100") == std::string::npos);
  }
}

TEST_CASE_METHOD(worker_fixture,
                 "a long log is clipped with a mark, and a failing step ends with its last words") {
  store::ref root = busybox();
  auto ok = run(shell("yes 0123456789012345678901234567890123456789 | head -c 3000000"), {root});
  REQUIRE(ok.ok());
  CHECK(sink.out().size() < 2'200'000);
  CHECK(sink.out().find("\n[output clipped, log limit 200KiB/s reached]\n") != std::string::npos);
  sink.text[1].clear();
  auto failed = run(
      shell("yes 0123456789012345678901234567890123456789 | head -c 3000000; echo the end; exit 1"), {root});
  REQUIRE(!failed.ok());
  CHECK(sink.out().ends_with("the end\n"));
}

TEST_CASE_METHOD(worker_fixture, "memory limits hold, and running out is said") {
  store::ref root = busybox();
  auto r = shell("x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo survived");
  r.metadata.mutable_linux_resources()->set_memory(16 << 20);
  auto out = run(r, {root});
  REQUIRE(!out.ok());
  INFO(out.error().message << sink.err());
  CHECK(out.error().message.ends_with("cannot allocate memory"));
  CHECK(sink.out().find("survived") == std::string::npos);
  CHECK(cgroups_left() == 0);
}

TEST_CASE_METHOD(worker_fixture, "only what was killed for its own memory ran out of it") {
  store::ref root = busybox();
  // One that is killed otherwise, one that fails after its child ran out, and one that just fails.
  auto killed = run(shell("sh -c 'kill -9 $$'; exit $?"), {root});
  REQUIRE(!killed.ok());
  CHECK(killed.error().message.ends_with("exit code: 137"));
  auto r = shell("(x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo $x >/dev/null); exit 3");
  r.metadata.mutable_linux_resources()->set_memory(16 << 20);
  auto child = run(r, {root});
  REQUIRE(!child.ok());
  INFO(child.error().message);
  CHECK(child.error().message.ends_with("cannot allocate memory"));
  auto enough = shell("exit 3");
  enough.metadata.mutable_linux_resources()->set_memory(64 << 20);
  auto failed = run(enough, {root});
  REQUIRE(!failed.ok());
  CHECK(failed.error().message.ends_with("exit code: 3"));
}

TEST_CASE_METHOD(worker_fixture, "a step tells what it used") {
  store::ref root = busybox();
  auto r = shell("i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done; head -c 3000000 /dev/zero >/file");
  std::string usage;
  r.usage = &usage;
  REQUIRE(run(r, {root}).ok());
  INFO(usage);
  auto told = json_or_null<nlohmann::ordered_json>(usage);
  REQUIRE(told.contains("samples"));
  const auto& last = told["samples"].back();
  CHECK(last["timestamp"].get<std::string>().ends_with("Z"));
  CHECK(last["cpuStat"]["usageNanos"].get<std::uint64_t>() > 10'000'000);
  CHECK(last["memoryStat"]["peak"].get<std::uint64_t>() > 1'000'000);
  CHECK(last["pidsStat"]["current"] == 0);
  CHECK(told["sysCPUStat"]["user"].get<double>() > 0);
  CHECK(cgroups_left() == 0);
}

TEST_CASE_METHOD(worker_fixture,
                 "more processes can be run in a running container, with input and a terminal") {
  store::ref root = busybox();
  auto specs = refs->create(root, {}, {});
  auto mounts = refs->files().mounts(*specs);
  auto mounted = store::mounted::make(*refs, *mounts);
  workers::container_spec spec;
  spec.id = "gw1";
  spec.rootfs = mounted->path();
  spec.process.args = {"/bin/cat"};
  spec.process.env = {"PATH=/bin", "WHO=init"};
  workers::process_control control;
  workers::process_io io;
  std::string echoed;
  io.output = [&](int, std::string_view b) { echoed += b; };
  io.control = &control;
  result<workers::exit_state> ended = workers::exit_state{};
  std::thread container([&] { ended = resources->executor->run(spec, io, stop.get_token()); });
  CHECK(control.write_input("typed\n"));

  std::string out;
  workers::process_io more;
  more.output = [&](int, std::string_view b) { out += b; };
  workers::process_spec p;
  p.args = {"/bin/sh", "-c", "echo $WHO; id -u; pwd; exit 4"};
  p.user = "build";
  p.cwd = "/tmp";
  auto second = resources->executor->exec("gw1", p, more, {});
  REQUIRE(second.ok());
  CHECK(second->code == 4);
  CHECK(out == "init\n1000\n/tmp\n");

  out.clear();
  p = {};
  p.args = {"/bin/sh", "-c", "test -t 0 && echo tty; read x; echo got:$x"};
  p.tty = true;
  workers::process_control keys;
  more.control = &keys;
  std::thread typist([&] {
    keys.resize(40, 100);
    keys.write_input("hi\n");
  });
  auto tty = resources->executor->exec("gw1", p, more, {});
  typist.join();
  REQUIRE(tty.ok());
  INFO(out);
  CHECK(out.find("tty\r\n") != std::string::npos);
  CHECK(out.find("got:hi\r\n") != std::string::npos);

  control.close_input();
  container.join();
  REQUIRE(ended.ok());
  CHECK(ended->code == 0);
  CHECK(echoed == "typed\n");
  auto late = resources->executor->exec("gw1", p, more, {});
  REQUIRE(!late.ok());
  CHECK(late.error().code == errc::not_found);
  CHECK(cgroups_left() == 0);
}

TEST_CASE_METHOD(worker_fixture, "who has input for a process is let go when it is never started") {
  // Of its own, and not joined: what it waits for may never come.
  auto control = std::make_shared<workers::process_control>();
  std::promise<bool> written;
  auto outcome = written.get_future();
  std::thread([control, written = std::move(written)]() mutable {
    bool taken = control->write_input("typed");
    control->close_input();
    control->signal(15);
    written.set_value(taken);
  }).detach();
  workers::process_io io;
  io.control = control.get();
  store::ref root = busybox();
  auto specs = refs->create(root, {}, {});
  auto mounts = refs->files().mounts(*specs);
  auto mounted = store::mounted::make(*refs, *mounts);
  workers::container_spec spec;
  spec.rootfs = mounted->path();
  spec.process.args = {"/bin/cat"};
  auto& executor = *resources->executor;
  SECTION("stopped before") {
    stop.request_stop();
    CHECK(executor.run(spec, io, stop.get_token()).error().code == errc::cancelled);
  }
  SECTION("in a network that is none") {
    spec.network = static_cast<pb::NetMode>(77);
    CHECK(executor.run(spec, io, {}).error().code == errc::invalid_argument);
  }
  SECTION("in a container that is gone") {
    CHECK(executor.exec("gone", spec.process, io, {}).error().code == errc::not_found);
  }
  SECTION("refused to a client") {
    moby::buildkit::v1::frontend::NewContainerRequest request;
    moby::buildkit::v1::frontend::InitMessage init;
    auto& mount = *request.add_mounts();
    mount.set_dest("/");
    auto container =
        workers::make_client_container(*resources, request, std::vector<store::ref>{root}, {}, job());
    REQUIRE(container.ok());
    CHECK((*container)->run(init, io, {}).error().message == "process has no arguments");
  }
  REQUIRE(outcome.wait_for(std::chrono::seconds(20)) == std::future_status::ready);
  CHECK(!outcome.get());
}

TEST_CASE_METHOD(worker_fixture, "what a killed daemon left is swept at the next start") {
  store::ref root = busybox();
  auto snapshot = refs->create(root, {}, {});
  auto mounts = refs->files().mounts(*snapshot);
  auto mounted = store::mounted::make(*refs, *mounts);
  workers::container_spec spec;
  spec.id = "left";
  spec.rootfs = mounted->path();
  spec.process.args = {"/bin/sh", "-c", "echo up; sleep 1003"};
  spec.process.env = {"PATH=/bin"};
  run_in_killed_daemon(spec);
  CHECK(cgroups_left() > 0);
  write_file(dir.path() / "state/executor/.new-hosts", "cut off");
  open();  // the next daemon's executor
  CHECK(!fs::exists(dir.path() / "state/executor/.new-hosts"));
  CHECK(cgroups_left() == 0);
  CHECK(fs::is_empty(dir.path() / "state/executor/containers"));
  CHECK(fs::is_empty(dir.path() / "state/executor/runtime"));
}

TEST_CASE_METHOD(worker_fixture, "merge, diff and passthrough combine refs") {
  store::ref a = make_ref([](const fs::path& p) { write_file(p / "a", "a"), write_file(p / "both", "a"); });
  store::ref b = make_ref([](const fs::path& p) { write_file(p / "both", "b"); });
  workers::op_request m;
  m.op.mutable_merge()->add_inputs()->set_input(0);
  m.op.mutable_merge()->add_inputs()->set_input(1);
  auto merged = run(m, {a, b});
  REQUIRE(merged.ok());
  in_ref(merged->front(), [](const fs::path& p) {
    CHECK(read_file(p / "a") == "a");
    CHECK(read_file(p / "both") == "b");
  });
  CHECK((*run(m, {store::ref{}, b}))[0].id() == b.id());
  CHECK(!(*run(m, {store::ref{}, store::ref{}}))[0]);

  store::ref above = make_ref([](const fs::path& p) { write_file(p / "c", "c"), fs::remove(p / "a"); }, a);
  workers::op_request d;
  d.op.mutable_diff()->mutable_lower()->set_input(0);
  d.op.mutable_diff()->mutable_upper()->set_input(1);
  auto difference = run(d, {a, above});
  REQUIRE(difference.ok());
  in_ref(difference->front(), [](const fs::path& p) {
    CHECK(fs::exists(p / "c"));
    CHECK(!fs::exists(p / "both"));
  });

  workers::op_request t;
  t.op.mutable_passthrough()->set_id("x");
  t.op.mutable_passthrough()->add_outputs(1);
  CHECK((*run(t, {a, b}))[0].id() == b.id());
  t.op.mutable_passthrough()->add_outputs(7);
  CHECK(!run(t, {a, b}).ok());
}

TEST_CASE_METHOD(worker_fixture, "a trivial step costs little", "[.overhead]") {
  store::ref root = busybox();
  auto r = shell("");
  r.op.mutable_exec()->mutable_meta()->clear_args();
  r.op.mutable_exec()->mutable_meta()->add_args("/bin/true");
  REQUIRE(run(r, {root}).ok());
  auto begin = clock_type::now();
  for (int i = 0; i < 20; ++i) REQUIRE(run(r, {root}).ok());
  auto each = std::chrono::duration_cast<std::chrono::microseconds>(clock_type::now() - begin).count() / 20;
  WARN("a step of /bin/true: " << each << " us");
}
