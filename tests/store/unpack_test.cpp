#include "store_fixture.hpp"

#include <sys/xattr.h>

#include <thread>

#include "store/archive/unpack.hpp"
#include "store/files/xattr.hpp"

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;

namespace {

result<unpack_outcome> unpack(const std::string& tar, const fs::path& to,
                              const unpack_options& options = {}) {
  string_source source(tar);
  return unpack_tar(source, to, options, {});
}

struct stat look(const fs::path& path) {
  struct stat info {};
  REQUIRE(::lstat(path.c_str(), &info) == 0);
  return info;
}

ref layer_from(ref_store& store, memory_provider& provider, const ref& parent, const std::string& tar) {
  // The provider outlives the store in these tests.
  return must(
      store.layer(parent, provider.add(tar), std::shared_ptr<blob_provider>(&provider, [](auto*) {}), {}));
}

}  // namespace

TEST_CASE("An archive's files arrive with type, mode, owner, time, links and attributes") {
  temporary_root root;
  auto to = root.path() / "to";
  fs::create_directory(to);
  tar_builder tar;
  tar.add({.name = "d/", .type = '5', .mode = 01777, .uid = 5, .gid = 6, .mtime = 1234});
  tar.add({.name = "d/suid", .mode = 06755, .uid = 7, .gid = 8, .mtime = 999, .xattrs = {{"user.x", "y"}}},
          "text");
  tar.add({.name = "d/same", .type = '1', .mode = 06755, .uid = 7, .gid = 8, .mtime = 999, .link = "d/suid"});
  tar.symlink("d/link", "../../../../etc/passwd");
  tar.add({.name = "fifo", .type = '6', .mode = 0600});
  tar.add({.name = "null", .type = '3', .mode = 0666, .device_major = 1, .device_minor = 3});
  tar.file("späße/\xff\xfe", "bytes").file("deep/er/and/deeper", "x");
  auto done = must(unpack(tar.text(), to));
  CHECK(done.entries == 8);
  CHECK(done.bytes == 10);
  auto d = look(to / "d");
  CHECK((d.st_mode & 07777) == 01777);
  CHECK(d.st_uid == 5);
  CHECK(d.st_mtim.tv_sec == 1234);
  auto f = look(to / "d/suid");
  CHECK((f.st_mode & 07777) == 06755);
  CHECK(f.st_uid == 7);
  CHECK(f.st_gid == 8);
  CHECK(f.st_mtim.tv_sec == 999);
  CHECK(f.st_nlink == 2);
  CHECK(look(to / "d/same").st_ino == f.st_ino);
  CHECK(fs::read_symlink(to / "d/link") == "../../../../etc/passwd");
  CHECK(S_ISFIFO(look(to / "fifo").st_mode));
  CHECK(look(to / "null").st_rdev == ::makedev(1, 3));
  CHECK(read(to / "späße/\xff\xfe") == "bytes");
  CHECK(read(to / "deep/er/and/deeper") == "x");
  char value[8];
  CHECK(::lgetxattr((to / "d/suid").c_str(), "user.x", value, sizeof value) == 1);
}

TEST_CASE("Later entries replace earlier ones, and nothing is written through a link") {
  temporary_root root;
  auto to = root.path() / "to";
  fs::create_directory(to);
  write(root.path() / "outside", "untouched");
  tar_builder tar;
  tar.file("a", "1").file("a", "2").directory("a").file("a/b", "3");
  tar.symlink("link", "../outside").file("link", "own");
  tar.directory("dir").symlink("dir", "/elsewhere");
  must(unpack(tar.text(), to));
  CHECK(read(to / "a/b") == "3");
  CHECK(fs::is_regular_file(fs::symlink_status(to / "link")));
  CHECK(read(root.path() / "outside") == "untouched");
  CHECK(fs::is_symlink(to / "dir"));
}

TEST_CASE("Archives cannot reach out of the root") {
  temporary_root root;
  auto to = root.path() / "to";
  fs::create_directory(to);
  fs::create_directory(root.path() / "victim");
  write(root.path() / "victim/file", "safe");
  // The root is its own parent, for names and for links.
  must(unpack(tar_builder().file("../evil", "x").file("a/../../victim/file", "inside").text(), to));
  CHECK(read(to / "evil") == "x");
  CHECK(read(to / "victim/file") == "inside");
  must(unpack(
      tar_builder().file("own", "mine").link("hard", "../../own").link("hard2", "/../victim/file").text(),
      to));
  CHECK(look(to / "hard").st_ino == look(to / "own").st_ino);
  CHECK(look(to / "hard2").st_ino == look(to / "victim/file").st_ino);
  CHECK_FALSE(fs::exists(root.path() / "evil"));
  CHECK_FALSE(unpack(tar_builder().link("hard", "nothing/there").text(), to).ok());
  fs::remove_all(to / "victim");
  // Absolute names and links are taken relative to the root.
  must(unpack(tar_builder().file("/abs/file", "x").text(), to));
  CHECK(read(to / "abs/file") == "x");
  fs::create_directory(to / "victim");  // where the links below lead
  must(unpack(tar_builder().symlink("up", "../victim").file("up/evil", "x").text(), to));
  CHECK(!fs::exists(root.path() / "victim/evil"));
  CHECK(read(to / "victim/evil") == "x");
  fs::create_directories(fs::path(to.string() + root.path().string()) / "victim");
  must(unpack(
      tar_builder().symlink("abs-link", root.path() / "victim").file("abs-link/file", "changed").text(), to));
  CHECK(read(root.path() / "victim/file") == "safe");
  // A chain of links, and a hard link to a link that leads out.
  must(unpack(
      tar_builder().symlink("s1", "/").symlink("s2", "s1/..").link("h", "s2").file("s2/x", "in").text(), to));
  CHECK(read(to / "x") == "in");
  // Whiteouts neither.
  unpack_options layer{.on_whiteout = unpack_options::whiteouts::remove};
  must(unpack(tar_builder().file("../.wh.victim", "").text(), to, layer));
  CHECK_FALSE(fs::exists(to / "victim"));
  CHECK_FALSE(unpack(tar_builder().file("d/.wh...", "").text(), to, layer).ok());
  must(unpack(tar_builder().symlink("w", "../victim").file("w/.wh.file", "").text(), to, layer));
  CHECK(fs::exists(root.path() / "victim/file"));
}

TEST_CASE(
    "Symlinks are text: they are kept wherever they lead, and nothing is written through them to the "
    "outside") {
  temporary_root root;
  auto to = root.path() / "to";
  fs::create_directory(to);
  write(root.path() / "canary/file", "alive");
  write(to / "etc/app/c", "c");
  for (const auto& link :
       std::vector<std::string>{"../canary", "../../../../../../../../../../..",
                                (root.path() / "canary").string(), "../etc/app", "up/../canary", "canary/"}) {
    INFO(link);
    auto name = "l" + std::to_string(link.size());
    tar_builder tar;
    tar.symlink(name, link).symlink("deep/er/" + name, link);
    must(unpack(tar.text(), to));
    CHECK(fs::read_symlink(to / name) == link);
    CHECK(fs::read_symlink(to / "deep/er" / name) == link);
    // Files, directories, hard links and attributes below such a link, whether it leads somewhere or not.
    for (auto at : {name, "deep/er/" + name}) {
      tar_builder through;
      through.file(at + "/file", "dead")
          .directory(at + "/directory")
          .add({.name = at + "/", .type = '5', .mode = 0123});
      through.symlink("again", at).file("again/file", "dead").link("hard", at + "/file");
      (void)unpack(through.text(), to);
      (void)unpack(tar_builder().add({.name = at, .type = '0', .mode = 0777}, "dead").text(), to);
      tar_builder anew;
      must(unpack(anew.symlink(at, link).text(), to));
    }
    CHECK(listing(root.path() / "canary") == std::map<std::string, std::string>{{"file", "alive"}});
    CHECK((look(root.path() / "canary").st_mode & 07777) == 0755);
    CHECK_FALSE(fs::exists(root.path() / "directory"));
    CHECK_FALSE(fs::exists(root.path() / "file"));
  }
}

TEST_CASE("What an archive says of its root is not said of the directory it is unpacked to") {
  for (auto name : {".", "./", "/", "x/..", ""}) {
    INFO(name);
    temporary_root root;
    auto to = root.path() / "to";
    fs::create_directory(to);
    REQUIRE(::chmod(to.c_str(), 0705) == 0);
    REQUIRE(::chown(to.c_str(), 3, 4) == 0);
    tar_builder tar;
    tar.add({.name = std::string(name) + "/",
             .type = '5',
             .mode = 01777,
             .uid = 5,
             .gid = 6,
             .mtime = 1234,
             .xattrs = {{"user.x", "y"}}});
    tar.file("a", "x");
    auto done = must(unpack(tar.text(), to, {.owner = std::pair<uid_t, gid_t>{9, 9}}));
    CHECK_FALSE(done.applied_root);
    auto d = look(to);
    CHECK((d.st_mode & 07777) == 0705);
    CHECK((d.st_uid == 3 && d.st_gid == 4));
    CHECK(d.st_mtim.tv_sec != 1234);
    char value[8];
    CHECK(::lgetxattr(to.c_str(), "user.x", value, sizeof value) == -1);
    CHECK(look(to / "a").st_uid == 9);
    // Where it is meant, it holds.
    done = must(unpack(tar.text(), to, {.exact = true}));
    CHECK(done.applied_root);
    d = look(to);
    CHECK((d.st_mode & 07777) == 01777);
    CHECK((d.st_uid == 5 && d.st_gid == 6));
    CHECK(d.st_mtim.tv_sec == 1234);
  }
}

TEST_CASE(
    "The root entry of a layer from a registry changes no root directory, neither of a base nor above it") {
  temporary_root root;
  memory_provider provider;
  auto store = open_store(root);
  auto told = [](const char* name, mode_t mode) {
    tar_builder tar;
    tar.add({.name = name, .type = '5', .mode = mode, .uid = 1234, .gid = 2345});
    return tar;
  };
  auto base = layer_from(*store, provider, {}, told("./", 0700).file("a", "1").text());
  auto own = begin(*store, base);
  REQUIRE(::chmod(own.path().c_str(), 0711) == 0);
  write(own.path() / "b", "2");
  auto built = end(*store, std::move(own));
  auto above = layer_from(*store, provider, built, told("/", 01777).file("c", "3").text());
  std::pair<ref, mode_t> expected[] = {{base, 0755}, {built, 0711}, {above, 0711}};
  for (const auto& [r, mode] : expected) {
    auto mount = mount_of(*store, r);
    auto info = look(mount.path());
    CHECK((info.st_mode & 07777) == mode);
    CHECK((info.st_uid == 0 && info.st_gid == 0));
  }
  CHECK(listing(*store, above).size() == 3);
}

TEST_CASE("Broken, truncated and empty archives") {
  temporary_root root;
  auto to = root.path() / "to";
  fs::create_directory(to);
  CHECK(must(unpack("", to)).entries == 0);
  CHECK(must(unpack(std::string(1024, '\0'), to)).entries == 0);
  auto whole = tar_builder().file("file", std::string(5000, 'x')).text();
  CHECK(!unpack(whole.substr(0, 2000), to).ok());
  CHECK(!unpack(std::string(3000, 'z'), to).ok());
}

TEST_CASE("Compressed archives are recognised for ADD, layers of the store are not decompressed twice") {
  temporary_root root;
  auto to = root.path() / "to";
  fs::create_directory(to);
  write(root.path() / "src/hello", "hi");
  for (auto [name, flag] : {std::pair{"a.tar", ""}, {"a.tgz", "z"}, {"a.tbz", "j"}, {"a.txz", "J"}}) {
    auto file = root.path() / name;
    auto command = "tar -C " + (root.path() / "src").string() + " -c" + flag + "f " + file.string() +
                   " hello 2>/dev/null";
    if (std::system(command.c_str()) != 0) continue;  // no such compressor here
    INFO(name);
    auto fd = must(open_file(file, O_RDONLY));
    CHECK(is_archive(fd.get()));
    auto source = must(open_source(fd.get()));
    fs::remove(to / "hello");
    must(unpack_tar(*source, to, {.owner = std::pair<uid_t, gid_t>{3, 4}, .detect_compression = true}, {}));
    CHECK(read(to / "hello") == "hi");
    CHECK(look(to / "hello").st_uid == 3);
  }
  // What stands behind the compressed bytes is nobody's; a name that the locale cannot show is one
  // nevertheless.
  auto trailing = root.path() / "a.tgz";
  REQUIRE(std::system(("echo junk >> " + trailing.string()).c_str()) == 0);
  auto fd = must(open_file(trailing, O_RDONLY));
  CHECK(is_archive(fd.get()));
  fs::remove(to / "hello");
  must(unpack_tar(*must(open_source(fd.get())), to, {.detect_compression = true}, {}));
  CHECK(read(to / "hello") == "hi");
  write(root.path() / "src/caf\xc3\xa9", "hi");
  for (auto format : {"posix", "gnu"}) {
    auto named = root.path() / "named.tar";
    REQUIRE(std::system(("tar -C " + (root.path() / "src").string() + " --format=" + format + " -cf " +
                         named.string() + " caf\xc3\xa9")
                            .c_str()) == 0);
    INFO(format);
    CHECK(is_archive(must(open_file(named, O_RDONLY)).get()));
  }
  write(root.path() / "plain", "just text, no archive");
  CHECK(!is_archive(must(open_file(root.path() / "plain", O_RDONLY)).get()));
  write(root.path() / "empty", "");
  CHECK(!is_archive(must(open_file(root.path() / "empty", O_RDONLY)).get()));
}

TEST_CASE(
    "Lazy layers are fetched and unpacked when their bytes are needed, several at once, and once only") {
  auto kind = GENERATE(snapshotter_kind::automatic, snapshotter_kind::native);
  temporary_root root;
  memory_provider provider;
  std::string id;
  {
    auto store = open_store(root, kind);
    ref top;
    for (int i = 0; i < 9; ++i) {
      tar_builder tar;
      tar.directory("d").file("d/f" + std::to_string(i), std::to_string(i)).file("last", std::to_string(i));
      if (i == 5) tar.file("d/.wh.f2", "");
      if (i == 7) tar.directory("o").file("o/.wh..wh..opq", "").file("o/new", "n");
      if (i == 1) tar.directory("o").file("o/old", "o");
      top = layer_from(*store, provider, top, tar.text());
    }
    auto layers = must(store->layers().of(top, {}));
    CHECK(layers.size() == 9);
    CHECK(provider.fetched == 0);
    id = top.id();
    std::vector<std::jthread> many;
    for (int i = 0; i < 4; ++i)
      many.emplace_back([&] {
        if (!store->files().materialize(top, {}).ok()) std::abort();
      });
    many.clear();
    CHECK(provider.fetched == 9);
    auto all = listing(*store, top);
    CHECK(all.at("last") == "8");
    CHECK(!all.contains("d/f2"));
    CHECK(all.contains("d/f3"));
    CHECK(!all.contains("o/old"));
    CHECK(all.at("o/new") == "n");
  }
  auto store = open_store(root, kind);
  CHECK(listing(*store, must(store->get(id))).at("last") == "8");
}

TEST_CASE("Equal chains are one record, and one without its bytes is not found after a restart") {
  temporary_root root;
  memory_provider provider;
  auto tar = tar_builder().file("f", "x").text();
  std::string id;
  {
    auto store = open_store(root);
    auto a = layer_from(*store, provider, {}, tar);
    auto b = layer_from(*store, provider, {}, tar);
    CHECK(a.id() == b.id());
    id = a.id();
  }
  auto store = open_store(root);
  auto gone = store->get(id);
  REQUIRE(!gone.ok());
  CHECK(gone.error().code == errc::not_found);
  auto again = layer_from(*store, provider, {}, tar);
  CHECK(again.id() == id);
  CHECK(listing(*store, must(store->get(id))).at("f") == "x");
}

TEST_CASE(
    "A directory that a layer only implies looks as the topmost layer below has it, and hides a link there") {
  temporary_root root;
  memory_provider provider;
  auto store = open_store(root);
  fs::create_directory(root.path() / "canary");
  tar_builder base_tar;
  base_tar.add({.name = "tmp/", .type = '5', .mode = 01777, .uid = 7, .gid = 8}).directory("usr");
  base_tar.add({.name = "usr/lib/", .type = '5', .mode = 0711, .xattrs = {{"user.x", "y"}}})
      .file("usr/lib/orig", "o");
  base_tar.symlink("lib", "usr/lib")
      .symlink("out", root.path() / "canary")
      .symlink("dangling", "no/where")
      .file("file", "f");
  base_tar.directory("gone").file("tmp/old", "1");
  auto base = layer_from(*store, provider, {}, base_tar.text());
  auto middle = layer_from(*store, provider, base,
                           tar_builder().file(".wh.gone", "").symlink("late", "usr/lib").text());
  tar_builder tar;
  for (auto name :
       {"tmp/x", "lib/y", "lib/deep/er/z", "out/y", "dangling/y", "late/y", "gone/y", "file/y", "new/a/b"})
    tar.file(name, "2");
  tar.file("lib/.wh.orig", "").file("tmp/.wh.old", "").symlink("own", "usr").file("own/lib/in", "3");
  auto top = layer_from(*store, provider, middle, tar.text());
  auto m = mount_of(*store, top);
  auto directory = [&](const char* name) {
    auto info = look(m.path() / name);
    CHECK(S_ISDIR(info.st_mode));
    return std::tuple(info.st_mode & 07777, info.st_uid, info.st_gid);
  };
  CHECK(directory("tmp") == std::tuple(01777u, 7u, 8u));
  for (auto name : {"lib", "usr/lib"}) {  // the link of the same layer is followed for the look alone
    CHECK(directory(name) == std::tuple(0711u, 0u, 0u));
    char value[8];
    CHECK(::lgetxattr((m.path() / name).c_str(), "user.x", value, sizeof value) == 1);
  }
  for (auto name : {"out", "dangling", "late", "gone", "file", "lib/deep", "lib/deep/er", "new", "new/a"}) {
    INFO(name);
    CHECK(directory(name) == std::tuple(0755u, 0u, 0u));
  }
  auto all = listing(m.path());
  for (auto name :
       {"tmp/x", "lib/y", "lib/deep/er/z", "out/y", "dangling/y", "late/y", "gone/y", "file/y", "new/a/b"})
    CHECK(all[name] == "2");
  CHECK(all["usr/lib/orig"] == "o");  // the whiteout is of lib/, which is not usr/lib/
  CHECK(all["usr/lib/in"] == "3");    // a link of the layer itself is followed
  CHECK_FALSE(all.contains("lib/orig"));
  CHECK_FALSE(all.contains("usr/lib/y"));
  CHECK_FALSE(all.contains("tmp/old"));
  CHECK(fs::is_empty(root.path() / "canary"));
  CHECK(fs::is_symlink(mount_of(*store, base).path() / "lib"));
}

TEST_CASE("Where a layer is unpacked onto a copy of those below, its links lead as in a root directory") {
  temporary_root root;
  memory_provider provider;
  auto store = open_store(root, snapshotter_kind::native);
  fs::create_directory(root.path() / "canary");
  auto base = layer_from(
      *store, provider, {},
      tar_builder().directory("usr").symlink("lib", "usr").symlink("out", root.path() / "canary").text());
  auto top = layer_from(*store, provider, base, tar_builder().file("lib/y", "2").file("out/y", "3").text());
  auto m = mount_of(*store, top);
  auto all = listing(m.path());
  CHECK(all["usr/y"] == "2");
  CHECK(fs::is_symlink(m.path() / "lib"));
  CHECK(all[(root.path() / "canary/y").string().substr(1)] == "3");
  CHECK(fs::is_empty(root.path() / "canary"));
}

TEST_CASE("What lies below a link that leads nowhere is an error of ADD, and a directory in a layer") {
  temporary_root root;
  auto to = root.path() / "to";
  fs::create_directory(to);
  auto tar = tar_builder().symlink("l", "../no/where").file("l/z", "z").text();
  auto done = unpack(tar, to);
  REQUIRE_FALSE(done.ok());
  CHECK(done.error().message == "archive entry \"l/z\": open directory l: no such file or directory");
  must(unpack(tar, to, {.on_whiteout = unpack_options::whiteouts::remove}));
  CHECK(read(to / "no/where/z") == "z");
  CHECK(unpack(tar_builder().file("f", "1").file("f/x", "2").text(), to).error().message ==
        "archive entry \"f/x\": open directory f: not a directory");
}

TEST_CASE("A file whose name ends with a slash is a file, but in archives older than ustar") {
  temporary_root root;
  auto to = root.path() / "to";
  fs::create_directory(to);
  tar_builder tar;
  tar.add({.name = "d/", .type = '0'}, "text")
      .add({.name = "old/", .type = '\0'})
      .add({.name = "old2", .type = '\0'}, "x");
  must(unpack(tar.text(), to));
  CHECK(read(to / "d") == "text");
  CHECK(fs::is_directory(to / "old"));
  CHECK(read(to / "old2") == "x");
}

TEST_CASE(
    "Hard links to what is not there, to directories and to themselves are errors that name entry and "
    "target") {
  temporary_root root;
  auto to = root.path() / "to";
  fs::create_directory(to);
  write(root.path() / "victim", "safe");
  auto refused = [&](const tar_builder& tar) {
    auto copy = tar;
    auto done = unpack(copy.text(), to);
    REQUIRE_FALSE(done.ok());
    return done.error().message;
  };
  auto absent = [](std::string target) {
    return "archive entry \"h\": hard link to \"" + target +
           "\", which is not there: it has to come earlier in the same archive";
  };
  CHECK(refused(tar_builder().link("h", "h")) == "archive entry \"h\": hard link to \"h\", itself");
  CHECK(refused(tar_builder().file("h", "x").link("h", "./h")) ==
        "archive entry \"h\": hard link to \"./h\", itself");
  CHECK(refused(tar_builder().directory("d").link("h", "d")) ==
        "archive entry \"h\": hard link to \"d\", a directory");
  CHECK(refused(tar_builder().link("h", "/")) ==
        "archive entry \"h\": hard link to \"/\", the root directory");
  CHECK(refused(tar_builder().link("h", "later").file("later", "x")) == absent("later"));
  CHECK(refused(tar_builder().link("h", "../victim")) == absent("../victim"));
  CHECK(refused(tar_builder().link("h", "no/where")) == absent("no/where"));
  CHECK(look(root.path() / "victim").st_nlink == 1);
  // What a link tells of its file holds, as anywhere; capabilities stay when it tells the same.
  tar_builder tar;
  tar.add({.name = "a",
           .mode = 0755,
           .uid = 3,
           .mtime = 5,
           .xattrs = {{"security.capability",
                       std::string("\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20)}}},
          "x");
  tar.add({.name = "b", .type = '1', .mode = 0750, .uid = 3, .mtime = 6, .link = "a"});
  must(unpack(tar.text(), to));
  CHECK((look(to / "a").st_mode & 07777) == 0750);
  CHECK(look(to / "a").st_mtim.tv_sec == 6);
  char value[32];
  CHECK(::lgetxattr((to / "a").c_str(), "security.capability", value, sizeof value) == 20);
  must(unpack(tar_builder().symlink("s", "gone").link("t", "s").text(), to));  // links to links are links
  CHECK(fs::read_symlink(to / "t") == "gone");
}

TEST_CASE("Entries of unknown types are refused by name, and what describes all entries is no entry") {
  temporary_root root;
  auto to = root.path() / "to";
  fs::create_directory(to);
  for (auto [type, shown] : {std::pair{'V', "86 ('V')"},
                             {'M', "77 ('M')"},
                             {'Z', "90 ('Z')"},
                             {'7', "55 ('7')"},
                             {'D', "68 ('D')"},
                             {'\x01', "1"}}) {
    tar_builder tar;
    tar.add({.name = "odd", .type = type});
    auto done = unpack(tar.text(), to);
    REQUIRE_FALSE(done.ok());
    CHECK(done.error().message == std::string("archive entry \"odd\": unhandled tar header type ") + shown);
  }
  tar_builder tar;
  write(to / "pax_global_header", "stays");
  tar.add({.name = "pax_global_header", .type = 'g'}, "12 path=x/y\n").file("f", "1");
  must(unpack(tar.text(), to));
  CHECK(read(to / "f") == "1");
  CHECK(read(to / "pax_global_header") == "stays");
}

TEST_CASE("Times that Go cannot set become 1970, but in what our own nodes send") {
  temporary_root root;
  auto to = root.path() / "to";
  fs::create_directory(to);
  struct one {
    const char* name;
    std::int64_t seconds;
    std::uint32_t nanoseconds;
    std::int64_t becomes;
  };
  // The file system has its own bounds; tmpfs and ext4 know those below.
  std::vector<one> all{{"before", -5, 0, 0},
                       {"fraction", -5, 250'000'000, 0},
                       {"zero", 0, 0, 0},
                       {"ninth", 1, 999'999'999, 1},
                       {"far", std::int64_t{1} << 33, 5, std::int64_t{1} << 33},
                       {"beyond", 9'223'372'037, 0, 0}};
  tar_builder tar;
  for (const auto& e : all)
    tar.add({.name = e.name, .mtime = e.seconds, .mtime_ns = e.nanoseconds})
        .add({.name = std::string(e.name) + "-d/",
              .type = '5',
              .mtime = e.seconds,
              .mtime_ns = e.nanoseconds});
  must(unpack(tar.text(), to));
  for (const auto& e : all)
    for (auto name : {std::string(e.name), std::string(e.name) + "-d"}) {
      INFO(name);
      CHECK(look(to / name).st_mtim.tv_sec == e.becomes);
      CHECK(look(to / name).st_mtim.tv_nsec == (e.becomes == e.seconds ? e.nanoseconds : 0));
    }
  must(unpack(tar.text(), to, {.exact = true}));
  for (auto name : {"before", "fraction-d"}) CHECK(look(to / name).st_mtim.tv_sec == -5);
}

TEST_CASE("An archive ends at its mark or where it ends, but not within an entry") {
  temporary_root root;
  auto to = root.path() / "to";
  fs::create_directory(to);
  auto tar = tar_builder().file("a", "1").file("b", "22").text();
  auto without_mark = tar.substr(0, tar.size() - 1024);
  CHECK(must(unpack(without_mark, to)).entries == 2);
  CHECK(must(unpack(without_mark.substr(0, without_mark.size() - 500), to)).entries ==
        2);  // the last block not filled
  CHECK(must(unpack(without_mark + std::string(512, '\0'), to)).entries == 2);
  CHECK(must(unpack(tar + "anything", to)).entries == 2);
  CHECK_FALSE(unpack(without_mark.substr(0, without_mark.size() - 511), to).ok());
  CHECK_FALSE(unpack(without_mark.substr(0, 1500), to).ok());
  CHECK_FALSE(unpack(without_mark + std::string(512, '\0') + std::string(512, 'x'), to).ok());
}

TEST_CASE("Attributes that may not be set are no error of ADD, those that are wrong are") {
  temporary_root root;
  auto to = root.path() / "to";
  fs::create_directory(to);
  tar_builder wrong;
  wrong.add({.name = "x", .xattrs = {{"security.capability", "junk"}}});
  CHECK_FALSE(unpack(wrong.text(), to, {.xattrs_best_effort = true}).ok());
  tar_builder tar;
  tar.add({.name = "s", .type = '2', .link = "x", .xattrs = {{"user.not-on-links", "1"}}});
  must(unpack(tar.text(), to, {.xattrs_best_effort = true}));
}

TEST_CASE("A wrong diff id is refused, and a rotten blob is fetched again") {
  temporary_root root;
  memory_provider provider;
  auto shared = std::shared_ptr<blob_provider>(&provider, [](auto*) {});
  auto store = open_store(root);
  auto lying = provider.add(tar_builder().file("f", "x").text());
  lying.diff_id = sha256("something else");
  auto bad = must(store->layer({}, lying, shared, {}));
  auto refused = store->files().materialize(bad, {});
  REQUIRE(!refused.ok());
  CHECK(refused.error().message.find("wrong diff id calculated on extraction") != std::string::npos);

  auto text = tar_builder().file("g", std::string(9000, 'g')).text();
  auto blob = provider.add(text);
  must(store->blobs().put(text));
  auto path = store->blobs().path_of(blob.blob.digest);
  REQUIRE(::chmod(path.c_str(), 0600) == 0);
  auto rotten = text;
  rotten[600] = '!';
  write(path, rotten);
  auto good = must(store->layer({}, blob, shared, {}));
  CHECK(listing(*store, good).at("g") == std::string(9000, 'g'));
}

TEST_CASE("A fetch that fails fails the job with its reason, a cancelled one with cancellation") {
  temporary_root root;
  auto store = open_store(root);
  memory_provider empty, other;
  auto shared = std::shared_ptr<blob_provider>(&empty, [](auto*) {});
  auto r = must(store->layer({}, other.add(tar_builder().file("f", "x").text()), shared, {}));
  auto failed = store->files().mounts(r, {});
  REQUIRE(!failed.ok());
  CHECK(failed.error().message == "no such blob");
  std::stop_source stop;
  stop.request_stop();
  job_context job;
  job.stop = stop.get_token();
  CHECK(store->files().materialize(r, job).error().code == errc::cancelled);
}

TEST_CASE("A layer's tar gives the same layer again") {
  auto kind = GENERATE(snapshotter_kind::automatic, snapshotter_kind::native);
  temporary_root root;
  memory_provider provider;
  auto store = open_store(root, kind);
  tar_builder base_tar;
  base_tar.directory("d")
      .directory("e")
      .file("e/x", "x")
      .file("d/gone", "g")
      .file("d/stay", "s")
      .directory("whole");
  base_tar.file("whole/a", "a");
  auto base = layer_from(*store, provider, {}, base_tar.text());
  auto s = begin(*store, base);
  auto p = s.path();
  fs::remove(p / "d/gone");
  fs::remove_all(p / "whole");
  fs::remove_all(p / "e");
  fs::create_directory(p / "e");  // opaque
  write(p / "e/new", "n");
  write(p / ("a-very-long-name-" + std::string(150, 'n') + "/and-" + std::string(100, 'm')), "long");
  write(p / "linked", "l");
  fs::create_hard_link(p / "linked", p / "linked2");
  fs::create_symlink(std::string(180, 's'), p / "sym");
  write(p / "ünïcode", "u");
  REQUIRE(::mknod((p / "dev").c_str(), S_IFCHR | 0660, ::makedev(1, 5)) == 0);
  REQUIRE(::lsetxattr((p / "linked").c_str(), "user.note", "v", 1, 0) == 0);
  REQUIRE(::chown((p / "linked").c_str(), 3'000'000, 5) == 0);
  const char capability[] = "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0";
  REQUIRE(::lsetxattr((p / "ünïcode").c_str(), "security.capability", capability, 20, 0) == 0);
  auto top = end(*store, std::move(s));
  auto tar = tar_of(*store, top.id());
  CHECK(tar == tar_of(*store, top.id()));
  auto again = layer_from(*store, provider, base, tar);
  CHECK(again.id() != top.id());
  CHECK(listing(*store, again) == listing(*store, top));
  auto m = mount_of(*store, again);
  CHECK(look(m.path() / "linked").st_ino == look(m.path() / "linked2").st_ino);
  CHECK(look(m.path() / "linked").st_uid == 3'000'000);
  CHECK(look(m.path() / "dev").st_rdev == ::makedev(1, 5));
  char value[64];
  CHECK(::lgetxattr((m.path() / "ünïcode").c_str(), "security.capability", value, sizeof value) == 20);
  CHECK(::lgetxattr((m.path() / "linked").c_str(), "user.note", value, sizeof value) == 1);
  must(m.unmount());
  CHECK(tar_of(*store, again.id()) == tar);
}

TEST_CASE("GNU tar reads what we write") {
  temporary_root root;
  auto store = open_store(root);
  auto s = begin(*store, {});
  write(s.path() / ("d/" + std::string(120, 'x')), "long");
  write(s.path() / "big", std::string(1 << 20, 'b'));
  fs::create_hard_link(s.path() / "big", s.path() / "big2");
  auto r = end(*store, std::move(s));
  write(root.path() / "layer.tar", tar_of(*store, r.id()));
  auto list =
      "tar -tvf " + (root.path() / "layer.tar").string() + " > " + (root.path() / "list").string() + " 2>&1";
  REQUIRE(std::system(list.c_str()) == 0);
  auto text = read(root.path() / "list");
  CHECK(text.find(std::string(120, 'x')) != std::string::npos);
  CHECK(text.find("big2 link to big") != std::string::npos);
}

TEST_CASE("A compressed form is remembered, and an image with the same content finds the built layer") {
  temporary_root root;
  memory_provider provider;
  auto store = open_store(root);
  auto built = layer_of(*store, {}, {{"f", "x"}});
  auto tar = tar_of(*store, built.id());
  layer_blob blob = provider.add(tar);
  CHECK(store->layers().add_blob(built.id(), blob).error().code == errc::not_found);
  must(store->blobs().put(tar));
  must(store->layers().add_blob(built.id(), blob));
  auto layers = must(store->layers().of(built, {}));
  REQUIRE(layers[0].blobs.size() == 1);
  CHECK(layers[0].blobs[0].blob.digest == blob.blob.digest);
  CHECK(layer_from(*store, provider, {}, tar).id() == built.id());
}
