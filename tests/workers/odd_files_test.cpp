// Steps that leave devices and FIFOs where the daemon will look.
#include <sys/sysmacros.h>

#include <chrono>

#include "store/files/confinement.hpp"
#include "filesync/sender.hpp"
#include "tests/workers/worker_fixture.hpp"
#include "workers/executor/users.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

void make_device(const fs::path& path, unsigned minor) {
  fs::create_directories(path.parent_path());
  REQUIRE(::mknod(path.c_str(), S_IFCHR | 0666, ::makedev(1, minor)) == 0);
}

void make_fifo(const fs::path& path) {
  fs::create_directories(path.parent_path());
  REQUIRE(::mkfifo(path.c_str(), 0666) == 0);
}

struct odd_fixture : worker_fixture {
  workers::op_request request;

  pb::FileAction& action(std::int64_t input, std::int64_t output) {
    auto& a = *request.op.mutable_file()->add_actions();
    a.set_input(input);
    a.set_secondaryinput(-1);
    a.set_output(output);
    return a;
  }
};

}  // namespace

TEST_CASE_METHOD(odd_fixture,
                 "a file is not made where a device or a FIFO is: it is neither opened nor written to") {
  auto base = make_ref([](const fs::path& p) {
    make_device(p / "zero", 5);
    make_device(p / "null", 3);
    make_fifo(p / "fifo");
    fs::create_symlink("zero", p / "link");
  });
  for (const auto* name : {"zero", "null", "fifo", "link"}) {
    INFO(name);
    request = {};
    auto& make = *action(0, 0).mutable_mkfile();
    make.set_path(std::string("/") + name);
    make.set_mode(0600);
    make.set_data("written");
    make.set_timestamp(-1);
    auto out = run(request, {base});
    REQUIRE_FALSE(out.ok());
    CHECK(out.error().message.find(": not a regular file") != std::string::npos);
  }
}

TEST_CASE_METHOD(odd_fixture,
                 "devices and FIFOs are copied as what they are, also by what unpacks archives") {
  auto source = make_ref([](const fs::path& p) {
    make_device(p / "dir/zero", 5);
    make_fifo(p / "dir/fifo");
    make_fifo(p / "fifo.tar");
    make_device(p / "zero.tar", 5);
  });
  auto copy = [&](std::int64_t input, std::int64_t output, const std::string& from, bool unpack) {
    auto& a = action(input, output);
    a.set_secondaryinput(0);
    auto& c = *a.mutable_copy();
    c.set_src(from);
    c.set_dest("/");
    c.set_mode(-1);
    c.set_timestamp(-1);
    c.set_attemptunpackdockercompatibility(unpack);
    c.set_createdestpath(true);
  };
  copy(-1, -1, "/dir", false);
  copy(1, -1, "/fifo.tar", true);
  copy(2, 0, "/zero.tar", true);
  auto out = run(request, {source});
  if (!out.ok()) FAIL(out.error().message);
  in_ref(out->front(), [](const fs::path& p) {
    struct stat st {};
    REQUIRE(::lstat((p / "dir/zero").c_str(), &st) == 0);
    CHECK((S_ISCHR(st.st_mode) && st.st_rdev == ::makedev(1, 5)));
    CHECK(fs::is_fifo(p / "dir/fifo"));
    CHECK(fs::is_fifo(p / "fifo.tar"));
    CHECK(fs::is_character_file(p / "zero.tar"));
  });
}

TEST_CASE_METHOD(odd_fixture,
                 "users are not looked up in a device or a FIFO, and steps by number run all the same") {
  auto with_passwd = [&](const std::function<void(const fs::path&)>& make) {
    return make_ref(
        [&](const fs::path& p) {
          fs::remove(p / "etc/passwd");
          make(p / "etc/passwd");
        },
        busybox());
  };
  for (const auto& base :
       {with_passwd([](const fs::path& p) { make_device(p, 5); }), with_passwd(make_fifo)}) {
    // No shell: it would look into the file itself.
    auto r = shell("");
    auto* meta = r.op.mutable_exec()->mutable_meta();
    meta->clear_args();
    meta->add_args("/bin/true");
    meta->set_user("build");
    auto out = run(r, {base});
    REQUIRE_FALSE(out.ok());
    CHECK(
        out.error().message ==
        "process \"/bin/true\" did not complete successfully: unable to find user build: no matching entries "
        "in passwd file");
    meta->set_user("1000:1000");
    auto by_number = run(r, {base});
    if (!by_number.ok()) FAIL(by_number.error().message);

    request = {};
    auto& make = *action(0, 0).mutable_mkdir();
    make.set_path("/made");
    make.set_mode(0755);
    make.set_timestamp(-1);
    make.mutable_owner()->mutable_user()->mutable_byname()->set_name("build");
    make.mutable_owner()->mutable_user()->mutable_byname()->set_input(0);
    auto owned = run(request, {base});
    REQUIRE_FALSE(owned.ok());
    CHECK(owned.error().message.find("/etc/passwd: not a regular file") != std::string::npos);
  }
}

TEST_CASE_METHOD(worker_fixture,
                 "names of owners that a tree does not know are root's, and the client is told") {
  struct told final : progress_sink {
    std::string warnings;
    void log(int, std::string_view) override {}
    void progress(std::string_view, std::int64_t, std::int64_t, bool) override {}
    void warn(std::string_view text) override { warnings += std::string(text) + "\n"; }
  } sink;
  auto j = job();
  j.progress = &sink;
  auto owner_of = [&](const store::ref& base, const std::string& user, const std::string& group) {
    sink.warnings.clear();
    workers::op_request request;
    request.vertex = "sha256:owners";
    request.platform = host_platform();
    auto& a = *request.op.mutable_file()->add_actions();
    a.set_input(0);
    a.set_secondaryinput(-1);
    auto& make = *a.mutable_mkfile();
    make.set_path("/owned");
    make.set_mode(0644);
    make.set_timestamp(-1);
    if (!user.empty()) {
      make.mutable_owner()->mutable_user()->mutable_byname()->set_name(user);
      make.mutable_owner()->mutable_user()->mutable_byname()->set_input(0);
    }
    if (!group.empty()) {
      make.mutable_owner()->mutable_group()->mutable_byname()->set_name(group);
      make.mutable_owner()->mutable_group()->mutable_byname()->set_input(0);
    }
    request.op.add_inputs();
    auto out = (*registry->handler(request.op))->run(request, std::vector<store::ref>{base}, j);
    if (!out.ok()) FAIL(out.error().message);
    std::string ids;
    in_ref(out->at(0), [&](const fs::path& root) {
      struct stat info {};
      REQUIRE(::lstat((root / "owned").c_str(), &info) == 0);
      ids = std::to_string(info.st_uid) + ":" + std::to_string(info.st_gid);
    });
    return ids;
  };
  auto base = busybox();
  CHECK(owner_of(base, "build", "wheel") == "1000:10");
  CHECK(sink.warnings.empty());
  CHECK(owner_of(base, "build", "") == "1000:1001");
  CHECK(owner_of(base, "build", "nogroup") == "1000:1001");
  CHECK(sink.warnings == "no group \"nogroup\" in /etc/group: it stays the owner's\n");
  CHECK(owner_of(base, "nouser", "wheel") == "0:10");
  CHECK(sink.warnings == "no user \"nouser\" in /etc/passwd: root is made the owner\n");
  CHECK(owner_of(base, "nouser", "nogroup") == "0:0");
  CHECK(owner_of(base, "1000", "") == "0:0");  // a name that looks like a number is one
  CHECK(owner_of(base, "build:x", "") == "0:0");
  CHECK(owner_of(make_ref([](const fs::path&) {}), "build", "wheel") == "0:0");
}

TEST_CASE_METHOD(worker_fixture,
                 "a step still opens the devices it may, on its root and on what is mounted there") {
  store::ref root = busybox();
  auto r = shell(
      "for d in / /cache /scratch /shown; do [ -c $d/zero ] || mknod $d/zero c 1 5; "
      "head -c 3 $d/zero | wc -c; [ -e $d/echo ] || cp /bin/busybox $d/echo; $d/echo ran; done");
  auto* cache = add_mount(r, pb::CACHE, "/cache");
  cache->mutable_cacheopt()->set_id("devices");
  add_mount(r, pb::BIND, "/scratch");
  auto* shown = add_mount(r, pb::BIND, "/shown");
  shown->set_input(1);
  shown->set_readonly(true);
  auto lower = make_ref([](const fs::path& p) {
    make_device(p / "zero", 5);
    fs::copy_file("/bin/busybox", p / "echo");
  });
  auto out = run(r, {root, lower});
  INFO(sink.err());
  if (!out.ok()) FAIL(out.error().message);
  CHECK(sink.out() == "3\nran\n3\nran\n3\nran\n3\nran\n");
}

TEST_CASE_METHOD(worker_fixture,
                 "what is put into a container beside its files cannot be a device, run or set ids") {
  auto r = shell(
      "grep -E ' /etc/hosts | /etc/resolv.conf | /plain | /program ' /proc/self/mounts | "
      "while read d p t o rest; do echo $p $o; done");
  client.calls["/moby.buildkit.secrets.v1.Secrets/GetSecret"] =
      [](const std::string&) -> result<std::string> {
    return std::string(
        "\x0a\x03"
        "abc");
  };
  for (auto [dest, mode] : {std::pair{"/plain", 0400}, std::pair{"/program", 0500}}) {
    auto* secret = add_mount(r, pb::SECRET, dest)->mutable_secretopt();
    secret->set_id("x");
    secret->set_mode(static_cast<std::uint32_t>(mode));
  }
  REQUIRE(run(r, {busybox()}).ok());
  INFO(sink.out());
  std::istringstream lines(sink.out());
  int seen = 0;
  for (std::string place, options; lines >> place >> options; ++seen) {
    INFO(place << " " << options);
    options = "," + options + ",";
    for (const auto* wanted : {",ro,", ",nosuid,", ",nodev,"})
      CHECK(options.find(wanted) != std::string::npos);
    CHECK((options.find(",noexec,") != std::string::npos) == (place != "/program"));
  }
  CHECK(seen == 4);
}

TEST_CASE_METHOD(worker_fixture, "a network mode nobody knows is refused") {
  workers::container_spec spec;
  spec.network = static_cast<pb::NetMode>(7);
  spec.process.args = {"/bin/true"};
  auto ran = resources->executor->run(spec, {}, {});
  REQUIRE_FALSE(ran.ok());
  CHECK(ran.error().message == "invalid network mode 7");
}
