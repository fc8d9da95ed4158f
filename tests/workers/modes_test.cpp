// Modes in builds are what was asked for, whatever the umask of the daemon is.
#include <sys/stat.h>

#include "filesync/sender.hpp"
#include "store/archive/tar_writer.hpp"
#include "tests/workers/worker_fixture.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

struct modes_fixture : worker_fixture {
  mode_t before = ::umask(022);
  ~modes_fixture() { ::umask(before); }

  /// The mode of everything in a ref but symlinks, by path.
  std::map<std::string, std::string> modes_of(const store::ref& r) {
    std::map<std::string, std::string> all;
    in_ref(r, [&](const fs::path& top) {
      auto add = [&](const fs::path& path, const std::string& name) {
        struct stat st {};
        REQUIRE(::lstat(path.c_str(), &st) == 0);
        char text[8];
        std::snprintf(text, sizeof text, "%04o", st.st_mode & 07777);
        if (!S_ISLNK(st.st_mode)) all[name] = text;
      };
      add(top, "/");
      for (const auto& e : fs::recursive_directory_iterator(top))
        add(e.path(), e.path().lexically_relative(top));
    });
    return all;
  }
};

using modes = std::map<std::string, std::string>;

std::string text_of(const modes& all) {
  std::string text;
  for (const auto& [path, mode] : all) text += path + " " + mode + "\n";
  return text;
}

/// A tar of one file without entries for its directories.
std::string bare_tar() {
  class sink final : public store::byte_sink {
   public:
    status write(std::string_view bytes) override { return text += bytes, status(); }
    status finish() override { return {}; }
    std::string text;
  } out;
  store::tar_writer tar(out);
  store::tar_entry e;
  e.name = "implied/deeper/file";
  e.mode = 0666;
  e.size = 1;
  REQUIRE((tar.header(e).ok() && tar.content("x").ok() && tar.end_entry().ok() && tar.finish().ok()));
  return out.text;
}

}  // namespace

TEST_CASE_METHOD(modes_fixture, "file actions give exactly their modes under any umask") {
  auto source = make_ref([](const fs::path& p) {
    ::umask(0);
    write_file(p / "tree/open", "x");
    ::chmod((p / "tree").c_str(), 0777);
    ::chmod((p / "tree/open").c_str(), 04666);
    REQUIRE(::mkfifo((p / "tree/fifo").c_str(), 0666) == 0);
    fs::create_directories(p / "tree/only/this");
    ::chmod((p / "tree/only").c_str(), 01777);
    ::chmod((p / "tree/only/this").c_str(), 0770);
    write_file(p / "a.tar", bare_tar());
  });
  workers::op_request r;
  int last = -1;
  auto next = [&]() -> pb::FileAction& {
    auto& a = *r.op.mutable_file()->add_actions();
    a.set_input(last);
    a.set_secondaryinput(-1);
    a.set_output(-1);
    last = r.op.file().actions_size();
    return a;
  };
  auto& made = *next().mutable_mkdir();
  made.set_path("/made/deep");
  made.set_mode(0777);
  made.set_makeparents(true);
  made.set_timestamp(-1);
  auto& plain = *next().mutable_mkdir();
  plain.set_path("/plain");
  plain.set_mode(0766);
  plain.set_timestamp(-1);
  auto& file = *next().mutable_mkfile();
  file.set_path("/file");
  file.set_mode(0666);
  file.set_timestamp(-1);
  auto copy = [&](const std::string& from, const std::string& to, int mode) -> pb::FileActionCopy& {
    auto& a = next();
    a.set_secondaryinput(0);
    auto& c = *a.mutable_copy();
    c.set_src(from);
    c.set_dest(to);
    c.set_mode(mode);
    c.set_timestamp(-1);
    c.set_createdestpath(true);
    return c;
  };
  copy("/tree", "/copied/there/", -1);
  copy("/tree/open", "/asked/open", 0626);
  copy("/tree", "/some/", -1).add_include_patterns("only/this");
  copy("/a.tar", "/unpacked/here/", -1).set_attemptunpackdockercompatibility(true);
  r.op.mutable_file()->mutable_actions(last - 1)->set_output(0);

  for (mode_t mask : {0, 022, 077}) {
    INFO("umask " << mask);
    ::umask(mask);
    auto out = run(r, {source});
    ::umask(022);
    if (!out.ok()) FAIL(out.error().message);
    CHECK(text_of(modes_of(out->front())) == text_of({{"/", "0755"},
                                                      {"made", "0777"},
                                                      {"made/deep", "0777"},
                                                      {"plain", "0766"},
                                                      {"file", "0666"},
                                                      {"copied", "0755"},
                                                      {"copied/there", "0755"},
                                                      {"copied/there/tree", "0777"},
                                                      {"copied/there/tree/open", "4666"},
                                                      {"copied/there/tree/fifo", "0666"},
                                                      {"copied/there/tree/only", "1777"},
                                                      {"copied/there/tree/only/this", "0770"},
                                                      {"asked", "0626"},
                                                      {"asked/open", "0626"},
                                                      {"some", "0755"},
                                                      {"some/tree", "0777"},
                                                      {"some/tree/only", "1777"},
                                                      {"some/tree/only/this", "0770"},
                                                      {"unpacked", "0755"},
                                                      {"unpacked/here", "0755"},
                                                      {"unpacked/here/implied", "0755"},
                                                      {"unpacked/here/implied/deeper", "0755"},
                                                      {"unpacked/here/implied/deeper/file", "0666"}}));
  }
}

TEST_CASE_METHOD(modes_fixture, "a step sees the same modes and umask under any umask of the daemon") {
  auto base = busybox();
  auto r = shell(
      "umask; for p in /etc/hosts /etc/resolv.conf /work /cache /scratch /shown /tmpfs /secret /ssh "
      "/dev/shm; "
      "do stat -c '%n %a' $p; done; mkdir /own; touch /own/file; mkdir /cache/own; echo > /scratch/own");
  auto* meta = r.op.mutable_exec()->mutable_meta();
  meta->set_cwd("/work");
  add_mount(r, pb::CACHE, "/cache")->mutable_cacheopt()->set_id("modes");
  add_mount(r, pb::BIND, "/scratch");
  auto* shown = add_mount(r, pb::BIND, "/shown");
  shown->set_input(-1);
  shown->set_readonly(true);
  add_mount(r, pb::TMPFS, "/tmpfs");
  auto* secret = add_mount(r, pb::SECRET, "/secret")->mutable_secretopt();
  secret->set_id("x");
  secret->set_mode(0644);
  auto* ssh = add_mount(r, pb::SSH, "/ssh")->mutable_sshopt();
  ssh->set_mode(0666);
  client.calls["/moby.buildkit.secrets.v1.Secrets/GetSecret"] =
      [](const std::string&) -> result<std::string> {
    return std::string(
        "\x0a\x03"
        "abc");
  };
  client.calls["/moby.sshforward.v1.SSH/CheckAgent"] = [](const std::string&) -> result<std::string> {
    return {""};
  };
  for (mode_t mask : {0, 022, 077}) {
    INFO("umask " << mask);
    ::umask(mask);
    sink.text[1].clear();
    auto out = run(r, {base});
    ::umask(022);
    INFO(sink.err());
    if (!out.ok()) FAIL(out.error().message);
    CHECK(sink.out() ==
          "0022\n/etc/hosts 644\n/etc/resolv.conf 644\n/work 755\n/cache 755\n/scratch 755\n/shown 755\n"
          "/tmpfs 1777\n/secret 644\n/ssh 666\n/dev/shm 1777\n");
    auto left = modes_of(out->front());
    CHECK(left["own"] == "0755");
    CHECK(left["own/file"] == "0644");
    CHECK(left["work"] == "0755");
    CHECK_FALSE(left.contains("cache"));
  }
}

TEST_CASE_METHOD(modes_fixture, "a client's files keep their modes under any umask") {
  temp_dir context;
  ::umask(0);
  write_file(context / "dir/file", "x");
  ::chmod((context / "dir").c_str(), 0777);
  ::chmod((context / "dir/file").c_str(), 0666);
  REQUIRE(::mkfifo((context / "fifo").c_str(), 0622) == 0);
  client.streams["/moby.filesync.v1.FileSync/DiffCopy"] = [&](message_stream& s, const call_metadata&) {
    auto tree = filesync::open_directory(context.path().string(), {});
    if (tree && filesync::send(s, **tree)) s.writes_done();
  };
  workers::op_request r;
  r.op.mutable_source()->set_identifier("local://context");
  ::umask(077);
  auto out = run(r, {});
  ::umask(022);
  if (!out.ok()) FAIL(out.error().message);
  CHECK(text_of(modes_of(out->front())) ==
        text_of({{"/", "0755"}, {"dir", "0777"}, {"dir/file", "0666"}, {"fifo", "0622"}}));
}
