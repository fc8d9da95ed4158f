// What a step sees, and what a run leaves, is the same under crun and runc.
#include "tests/workers/worker_fixture.hpp"

#include <sys/stat.h>
#include <sys/wait.h>

#include <csignal>
#include <future>

#include "workers/executor/cgroups.hpp"
#include "workers/executor/environment.hpp"
#include "workers/executor/users.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

mode_t mode_of(const fs::path& p) {
  struct stat st {};
  return ::lstat(p.c_str(), &st) == 0 ? st.st_mode & 07777 : 0;
}

const std::vector<std::string> runtimes{"crun", "runc"};

/// Groups at the top of any hierarchy whose names begin so.
std::vector<fs::path> groups_named(const std::string& prefix) {
  std::vector<fs::path> out;
  for (const auto& hierarchy : workers::cgroup_hierarchies())
    for (const auto& entry : fs::directory_iterator(hierarchy))
      if (entry.path().filename().string().starts_with(prefix)) out.push_back(entry.path());
  return out;
}

struct runtime_fixture : worker_fixture {
  void open_with(const std::string& runtime) {
    resources.reset();
    workers::worker_options options;
    options.refs = refs.get();
    options.executor.root = dir.path() / "state/executor";
    options.executor.default_cgroup_parent = cgroup_parent;
    options.executor.binary = runtime;
    auto worker = workers::open_worker(std::move(options));
    if (!worker) FAIL(worker.error().message);
    resources = *std::move(worker);
    registry = std::make_unique<workers::op_registry>(*resources);
  }
};

}  // namespace

TEST_CASE("the environment of a process: of equal names the last, a home unless there is one") {
  auto env = [](std::vector<std::string> given) { return *workers::process_environment(given, "/home/x"); };
  using list = std::vector<std::string>;
  CHECK(env({}) == list{"HOME=/home/x"});
  CHECK(env({"HOME=/set", "A=1"}) == list{"HOME=/set", "A=1"});
  CHECK(env({"HOME=", "A=1"}) == list{"A=1", "HOME=/home/x"});
  CHECK(env({"HOME=/a", "HOME="}) == list{"HOME=/a"});
  CHECK(env({"A=1", "B=2", "A=3", "C=", "A=4=5"}) == list{"B=2", "C=", "A=4=5", "HOME=/home/x"});
  CHECK(workers::process_environment({"A=1", "no value"}, "/").error().message ==
        "invalid environment variable: \"no value\"");
}

TEST_CASE("the home of a user is that of the first entry with its id") {
  std::string passwd =
      "# comment\nroot:x:0:0:root:/root:/bin/sh\n123:x:77:77::/home/digits:/bin/sh\ntwice:x:77:77::/later:\n"
      "homeless:x:5:5:::\nshort:x:6\n";
  CHECK(workers::home_of(0, passwd) == "/root");
  CHECK(workers::home_of(77, passwd) == "/home/digits");
  CHECK(workers::home_of(123, passwd) == "/");
  CHECK(workers::home_of(5, passwd) == "/");
  CHECK(workers::home_of(6, passwd) == "/");
  CHECK(workers::home_of(0, std::nullopt) == "/");
}

TEST_CASE_METHOD(runtime_fixture,
                 "user, groups, home, path, terminal and umask do not depend on the runtime") {
  store::ref root = busybox();
  root = make_ref(
      [](const fs::path& p) {
        write_file(p / "etc/passwd",
                   "root:x:0:0:root:/root:/bin/sh\nbuild:x:1000:1001:b:/home/build:/bin/sh\n4242:x:78:79::/"
                   "home/digits:\n"
                   "homeless:x:5:5:::\n");
      },
      root);
  struct row {
    const char* user;
    const char* home;  // in the environment; null: none
    const char* seen;
  } rows[] = {{"", nullptr, "0:0:0 10 /root"},
              {"0", nullptr, "0:0:0 10 /root"},
              {"0:0", nullptr, "0:0:0 /root"},
              {"root:build", nullptr, "0:1001:1001 /root"},
              {"12345", nullptr, "12345:0:0 /"},
              {"12345:77", nullptr, "12345:77:77 /"},
              {"build", nullptr, "1000:1001:1001 2000 /home/build"},
              {"1000", nullptr, "1000:1001:1001 2000 /home/build"},
              {"build:2000", nullptr, "1000:2000:2000 /home/build"},
              {"1:2:3", nullptr, "1:2:2 /"},  // what follows a second colon counts for nothing
              {"build:build:x", nullptr, "1000:1001:1001 /home/build"},
              {"4242", nullptr, "4242:0:0 /"},  // a number is an id, whatever names there are
              {"homeless", nullptr, "5:5:5 /"},
              {"12345", "/set", "12345:0:0 /set"},
              {"build", "", "1000:1001:1001 2000 /home/build"}};
  for (const auto& runtime : runtimes) {
    open_with(runtime);
    for (const auto& r : rows) {
      INFO(runtime << " \"" << r.user << "\"");
      auto step =
          shell("echo $(id -u):$(id -g):$(id -G) $HOME; echo $PATH; umask; echo ${TERM-none}; echo $A");
      auto* meta = step.op.mutable_exec()->mutable_meta();
      meta->set_user(r.user);
      meta->add_env("A=first");
      meta->add_env("A=last");
      if (r.home) meta->add_env(std::string("HOME=") + r.home);
      sink.text[1].clear();
      auto out = run(step, {root});
      INFO(sink.err());
      REQUIRE(out.ok());
      CHECK(sink.out() ==
            std::string(r.seen) +
                "\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n0022\nnone\nlast\n");
    }
  }
}

TEST_CASE_METHOD(runtime_fixture,
                 "mount points that a run leaves have one mode, in the root and in what is mounted") {
  store::ref root = make_ref([](const fs::path& p) {
    fs::create_directories(p / "bin");
    fs::copy_file("/bin/busybox", p / "bin/sh");
  });
  store::ref data = make_ref([](const fs::path& p) { write_file(p / "file", "content\n"); });
  for (const auto& runtime : runtimes) {
    INFO(runtime);
    open_with(runtime);
    auto r = shell("exit 0");
    add_mount(r, pb::TMPFS, "/deep/er/est");
    auto* out_mount = add_mount(r, pb::BIND, "/out");
    out_mount->set_input(1);
    out_mount->set_output(1);
    auto* below = add_mount(r, pb::BIND, "/out/a/b");
    below->set_input(1);
    below->set_readonly(true);
    add_mount(r, pb::TMPFS, "/dev/in/memory");
    auto out = run(r, {root, data});
    INFO(sink.err());
    REQUIRE(out.ok());
    in_ref(out->front(), [](const fs::path& p) {
      for (auto name : {"dev", "proc", "sys", "deep", "deep/er"}) {
        INFO(name);
        CHECK(mode_of(p / name) == 0755);
      }
      CHECK(fs::is_empty(p / "dev"));
      CHECK(!fs::exists(p / "deep/er/est"));
      CHECK(!fs::exists(p / "out"));
      CHECK(!fs::exists(p / "etc/hosts"));
    });
    in_ref((*out)[1], [](const fs::path& p) {
      CHECK(mode_of(p / "a") == 0755);
      CHECK(mode_of(p / "a/b") == 0755);
    });
  }
}

TEST_CASE_METHOD(runtime_fixture, "a directory made for several mount points goes with the last of them") {
  store::ref root = make_ref([](const fs::path& p) {
    fs::create_directories(p / "bin");
    fs::copy_file("/bin/busybox", p / "bin/sh");
    fs::create_directories(p / "old");
    fs::last_write_time(p / "old", fs::file_time_type{});
  });
  store::ref data = make_ref([](const fs::path& p) { write_file(p / "file", "content\n"); });
  for (const auto& runtime : runtimes) {
    INFO(runtime);
    open_with(runtime);
    auto r = shell("echo made > /used/made");
    r.op.mutable_exec()->mutable_meta()->set_removemountstubsrecursive(true);
    for (auto where :
         {"/x/a", "/x/b", "/x/c/d/e", "/x/c/f", "/old/one/a", "/old/one/b", "/used/a", "/used/b"})
      add_mount(r, pb::TMPFS, where);
    auto* around = add_mount(r, pb::BIND, "/around/it");
    around->set_input(1);
    add_mount(r, pb::TMPFS, "/around/it/inside/a");
    add_mount(r, pb::TMPFS, "/around/it/inside/b");
    auto out = run(r, {root, data});
    INFO(sink.err());
    REQUIRE(out.ok());
    in_ref(out->front(), [](const fs::path& p) {
      for (auto name : {"x", "around", "etc", "old/one", "used/a", "used/b"}) {
        INFO(name);
        CHECK(!fs::exists(p / name));
      }
      CHECK(read_file(p / "used/made") == "made\n");
      CHECK(fs::last_write_time(p / "old") == fs::file_time_type{});
    });
  }
}

TEST_CASE_METHOD(runtime_fixture,
                 "a tmpfs has the mode of the directory it covers, one for all where there is none") {
  store::ref root = make_ref([](const fs::path& p) {
    fs::create_directories(p / "bin");
    fs::copy_file("/bin/busybox", p / "bin/busybox");
    for (auto name : {"sh", "stat"}) fs::create_symlink("busybox", p / "bin" / name);
    for (auto [name, mode] : {std::pair{"d", 02710}, {"e", 0755}, {"f", 0}}) {
      fs::create_directories(p / name);
      REQUIRE(::chown((p / name).c_str(), 5, 6) == 0);
      REQUIRE(::chmod((p / name).c_str(), static_cast<mode_t>(mode)) == 0);
    }
    fs::create_symlink("/e", p / "link");
    fs::create_symlink("/usr", p / "dangling");
  });
  store::ref data = make_ref([](const fs::path& p) {
    fs::create_directories(p / "sub");
    fs::permissions(p / "sub", fs::perms(0750));
  });
  for (const auto& runtime : runtimes) {
    INFO(runtime);
    open_with(runtime);
    auto r = shell("stat -c '%n %a %u:%g' /d /e /f /new /dangling/x /m/sub /m/new /d/in /dev/shm /dev/x");
    for (auto where : {"/d", "/link", "/f", "/new", "/dangling/x", "/m/sub", "/m/new", "/d/in", "/dev/x"})
      add_mount(r, pb::TMPFS, where);
    add_mount(r, pb::BIND, "/m")->set_input(1);
    sink.text[1].clear();
    auto out = run(r, {root, data});
    INFO(sink.err());
    REQUIRE(out.ok());
    CHECK(sink.out() ==
          "/d 2710 0:0\n/e 755 0:0\n/f 0 0:0\n/new 1777 0:0\n/dangling/x 1777 0:0\n/m/sub 750 0:0\n"
          "/m/new 1777 0:0\n/d/in 1777 0:0\n/dev/shm 1777 0:0\n/dev/x 1777 0:0\n");
  }
}

TEST_CASE_METHOD(worker_fixture,
                 "what a runtime's configuration cannot say is an error or told, never something else") {
  store::ref root = busybox();
  SECTION("a working directory") {
    auto r = shell("pwd");
    r.op.mutable_exec()->mutable_meta()->set_cwd("/latin\xe9");
    auto out = run(r, {root});
    REQUIRE(!out.ok());
    CHECK(out.error().message.find("is not UTF-8") != std::string::npos);
  }
  SECTION("a mount point") {
    auto r = shell("true");
    add_mount(r, pb::TMPFS, "/latin\xe9");
    auto out = run(r, {root});
    REQUIRE(!out.ok());
    CHECK(out.error().message.find("is not UTF-8") != std::string::npos);
  }
  SECTION("an argument") {
    auto out = run(shell("echo \xe9"), {root});
    REQUIRE(out.ok());
    CHECK(sink.out() == "\xef\xbf\xbd\n");
    CHECK(sink.err().find("not UTF-8") != std::string::npos);
  }
  SECTION("an entry of the environment without a value") {
    auto r = shell("true");
    r.op.mutable_exec()->mutable_meta()->add_env("NOTHING");
    auto out = run(r, {root});
    REQUIRE(!out.ok());
    CHECK(out.error().message.ends_with(": invalid environment variable: \"NOTHING\""));
  }
}

TEST_CASE_METHOD(worker_fixture, "rm removes directories of lower layers however deep") {
  std::string deep = "top";
  for (int i = 0; i < 200; ++i) deep += "/d";
  store::ref root = make_ref([&](const fs::path& p) {
    write_file(p / deep / "file", "x");
    write_file(p / "keep", "x");
  });
  workers::op_request r;
  r.vertex = "sha256:test";
  auto* action = r.op.mutable_file()->add_actions();
  action->set_input(0);
  action->set_secondaryinput(-1);
  action->set_output(0);
  action->mutable_rm()->set_path("/top");
  auto out = run(r, {root});
  if (!out) FAIL(out.error().message);
  in_ref(out->front(), [](const fs::path& p) {
    CHECK(!fs::exists(p / "top"));
    CHECK(fs::exists(p / "keep"));
  });
}

TEST_CASE_METHOD(runtime_fixture,
                 "groups that a named parent made necessary go with the last container in it") {
  auto own = "kiln-parent-" + std::to_string(::getpid());
  auto root = busybox();
  auto run_below = [&](const std::string& parent, const std::string& script = "true") {
    auto snapshot = refs->create(root, {}, {});
    auto mounted = store::mounted::make(*refs, *refs->files().mounts(*snapshot), store::mount_use::container);
    workers::container_spec spec;
    spec.rootfs = mounted->path();
    spec.cgroup_parent = parent;
    spec.process.args = {"/bin/sh", "-c", script};
    spec.process.env = {"PATH=/bin"};
    workers::process_io io;
    std::string said;
    io.output = [&](int, std::string_view bytes) { said += bytes; };
    auto end = resources->executor->run(spec, io, {});
    if (end.ok() && end->code != 0) UNSCOPED_INFO(said);
    return end;
  };
  for (const auto& runtime : runtimes) {
    INFO(runtime);
    open_with(runtime);
    for (auto parent :
         {own + "-a", own + "-b/deep/er", "../../../" + own + "-c", "/x/../" + own + "-d//./y/../z/",
          own + "-with:colon", own + "-e/..", own + "-f/../../.."}) {
      INFO(parent);
      auto end = run_below(parent);
      REQUIRE(end.ok());
      CHECK(end->code == 0);
      CHECK(groups_named(own).empty());
    }
    // A program that cannot be started leaves nothing either.
    auto failed = run_below(own + "-g/h", "exec /no/such");
    CHECK((!failed.ok() || failed->code != 0));
    CHECK(groups_named(own).empty());
    // What was there before stays, and only that.
    std::vector<fs::path> before;
    for (const auto& hierarchy : workers::cgroup_hierarchies()) before.push_back(hierarchy / (own + "-kept"));
    for (const auto& group : before) REQUIRE(::mkdir(group.c_str(), 0755) == 0);
    REQUIRE(run_below(own + "-kept/new").ok());
    for (const auto& group : before) {
      CHECK_FALSE(fs::exists(group / "new"));
      CHECK(::rmdir(group.c_str()) == 0);
    }
    // One that ends does not take the ground from under another.
    std::vector<std::future<bool>> many;
    for (int i = 0; i < 6; ++i)
      many.push_back(std::async(std::launch::async, [&, i] {
        for (int n = 0; n < 3; ++n) {
          auto end = run_below(own + "-shared/" + std::to_string((i + n) % 2));
          if (!end.ok() || end->code != 0) return false;
        }
        return true;
      }));
    for (auto& one : many) CHECK(one.get());
    CHECK(groups_named(own).empty());
  }
  CHECK(run_below("a\nb").error().message == "invalid cgroup parent \"a\\nb\": control characters");
  CHECK(run_below("a/" + std::string(256, 'x')).error().message.find("a name of more than 255 bytes") !=
        std::string::npos);
  CHECK(run_below("a\xff").error().code == errc::invalid_argument);
  CHECK(run_below(std::string(3000, '/')).error().code == errc::invalid_argument);
}

TEST_CASE_METHOD(runtime_fixture, "groups above those of a killed daemon's containers are swept with them") {
  auto own = "kiln-swept-" + std::to_string(::getpid());
  auto root = busybox();
  auto snapshot = refs->create(root, {}, {});
  auto mounted = store::mounted::make(*refs, *refs->files().mounts(*snapshot), store::mount_use::container);
  workers::container_spec spec;
  spec.id = "left";
  spec.rootfs = mounted->path();
  spec.cgroup_parent = own + "/below";
  spec.process.args = {"/bin/sh", "-c", "echo up; sleep 1003"};
  spec.process.env = {"PATH=/bin"};
  run_in_killed_daemon(spec);
  CHECK_FALSE(groups_named(own).empty());
  open();
  CHECK(groups_named(own).empty());
}
