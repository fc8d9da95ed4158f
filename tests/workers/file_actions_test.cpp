#include "base/unique_fd.hpp"
#include "workers/ops/file_actions.hpp"

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>

#include "configs/store.hpp"
#include "base/files.hpp"
#include "base/unique_fd.hpp"

namespace fs = std::filesystem;
using namespace kiln;
using namespace kiln::workers;

namespace {

/// A directory that goes away, with helpers to fill and to describe it.
struct tree {
  tree() {
    char name[] = "/tmp/kiln-file-test-XXXXXX";
    path = mkdtemp(name);
    chmod(path.c_str(), 0755);
    fd = unique_fd{open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  }
  ~tree() { fs::remove_all(path); }

  tree& file(const std::string& name, const std::string& text = "x", mode_t mode = 0644) {
    fs::create_directories((path / name).parent_path());
    std::ofstream(path / name) << text;
    chmod((path / name).c_str(), mode);
    return *this;
  }
  tree& dir(const std::string& name, mode_t mode = 0755) {
    fs::create_directories(path / name);
    chmod((path / name).c_str(), mode);
    return *this;
  }
  tree& link(const std::string& name, const std::string& target) {
    fs::create_directories((path / name).parent_path());
    fs::create_symlink(target, path / name);
    return *this;
  }
  struct stat info(const std::string& name) const {
    struct stat s {};
    if (lstat((path / name).c_str(), &s) != 0) s.st_mode = 0;
    return s;
  }
  std::string text(const std::string& name) const {
    std::ifstream in{path / name};
    return {std::istreambuf_iterator<char>(in), {}};
  }
  /// All paths, sorted, one a line; directories end in a slash.
  std::string list() const {
    std::vector<std::string> all;
    for (const auto& e : fs::recursive_directory_iterator(path))
      all.push_back(e.path().lexically_relative(path).string() +
                    (e.is_directory() && !e.is_symlink() ? "/" : ""));
    std::sort(all.begin(), all.end());
    std::string out;
    for (const auto& p : all) out += (out.empty() ? "" : " ") + p;
    return out;
  }

  fs::path path;
  unique_fd fd;
};

pb::FileActionCopy copy_of(const std::string& src, const std::string& dest) {
  pb::FileActionCopy c;
  c.set_src(src);
  c.set_dest(dest);
  c.set_mode(-1);
  c.set_timestamp(-1);
  c.set_createdestpath(true);
  return c;
}

status copy(const tree& from, const tree& to, const pb::FileActionCopy& action,
            std::optional<file_owner> owner = {}) {
  return copy_path(from.fd.get(), to.fd.get(), to.path.string(), action, owner, {});
}

}  // namespace

TEST_CASE("mkdir makes one directory or all of them, with mode and owner, the last with its time") {
  tree t;
  pb::FileActionMkDir a;
  a.set_path("/a/b");
  a.set_mode(0711);
  a.set_timestamp(5'000'000'007);
  CHECK(make_directory(t.fd.get(), a, {}).error().code == errc::not_found);
  a.set_makeparents(true);
  REQUIRE(make_directory(t.fd.get(), a, file_owner{12, 34}).ok());
  for (auto name : {"a", "a/b"}) {
    auto s = t.info(name);
    CHECK((s.st_mode & 07777) == 0711);
    CHECK((s.st_uid == 12 && s.st_gid == 34));
  }
  auto last = t.info("a/b").st_mtim;
  CHECK((last.tv_sec == 5 && last.tv_nsec == 7));
  // In its parents something was made since; layers of BuildKit's say so, too.
  CHECK(t.info("a").st_mtim.tv_sec > 1'700'000'000);
  a.set_makeparents(false);
  CHECK(make_directory(t.fd.get(), a, {}).ok());  // existing is fine
}

TEST_CASE("mkfile truncates what is there and follows links inside the root only") {
  tree t;
  t.file("old", "much longer text", 0640).link("way", "/old").link("out", "../../../../etc/kiln-test-escape");
  pb::FileActionMkFile a;
  a.set_path("/way");
  a.set_mode(0600);
  a.set_data("new");
  a.set_timestamp(-1);
  REQUIRE(make_file(t.fd.get(), a, {}).ok());
  CHECK(t.text("old") == "new");
  CHECK((t.info("old").st_mode & 07777) == 0640);
  t.dir("etc");
  a.set_path("/out");
  REQUIRE(make_file(t.fd.get(), a, {}).ok());
  CHECK(t.text("etc/kiln-test-escape") == "new");
  CHECK_FALSE(fs::exists("/etc/kiln-test-escape"));
}

TEST_CASE("symlink refuses to replace, rm does not follow the last component") {
  tree t;
  t.file("dir/inside").link("link", "dir");
  pb::FileActionSymlink s;
  s.set_oldpath("dir");
  s.set_newpath("/fresh");
  s.set_timestamp(-1);
  CHECK(make_symlink(t.fd.get(), s, {}).ok());
  s.set_newpath("/dir/inside");
  CHECK(make_symlink(t.fd.get(), s, {}).error().code == errc::already_exists);
  pb::FileActionRm r;
  r.set_path("/link");
  REQUIRE(remove_path(t.fd.get(), r).ok());
  CHECK(t.list() == "dir/ dir/inside fresh");
  r.set_path("/missing");
  CHECK(remove_path(t.fd.get(), r).error().code == errc::not_found);
  r.set_allownotfound(true);
  CHECK(remove_path(t.fd.get(), r).ok());
  r.set_path("/");
  CHECK_FALSE(remove_path(t.fd.get(), r).ok());
}

TEST_CASE("rm with wildcards removes every match, in subdirectories too") {
  tree t;
  t.file("a/x.o").file("a/y.c").file("b/z.o").file("x.o");
  pb::FileActionRm r;
  r.set_path("/*/*.o");
  r.set_allowwildcard(true);
  REQUIRE(remove_path(t.fd.get(), r).ok());
  CHECK(t.list() == "a/ a/y.c b/ x.o");
}

TEST_CASE("a file lands under its name in a directory, and under the new name otherwise") {
  tree from;
  from.file("src.txt", "hello", 0751);
  struct row {
    const char* dest;
    const char* result;
  } rows[] = {{"/dir/", "dir/ dir/src.txt"},
              {"/dir/new.txt", "dir/ dir/new.txt"},
              {"/there", "there"},
              {"/", "src.txt"}};
  for (const auto& r : rows) {
    INFO(r.dest);
    tree to;
    REQUIRE(copy(from, to, copy_of("/src.txt", r.dest)).ok());
    CHECK(to.list() == r.result);
  }
  tree to;
  to.dir("there");
  REQUIRE(copy(from, to, copy_of("/src.txt", "/there")).ok());
  CHECK(to.list() == "there/ there/src.txt");
  CHECK((to.info("there/src.txt").st_mode & 07777) == 0751);
  CHECK(to.info("there/src.txt").st_mtim.tv_nsec == from.info("src.txt").st_mtim.tv_nsec);
}

TEST_CASE("a directory is copied itself or by its contents") {
  tree from;
  from.file("d/one").file("d/sub/two").link("d/l", "one");
  {
    tree to;
    auto a = copy_of("/d", "/target/");
    a.set_dircopycontents(true);
    REQUIRE(copy(from, to, a).ok());
    CHECK(to.list() == "target/ target/l target/one target/sub/ target/sub/two");
  }
  {
    tree to;
    to.dir("target");
    REQUIRE(copy(from, to, copy_of("/d", "/target")).ok());
    CHECK(to.list() == "target/ target/d/ target/d/l target/d/one target/d/sub/ target/d/sub/two");
  }
  {
    tree to;
    to.file("one", "old").dir("sub", 0700);
    auto a = copy_of("/d", "/");
    a.set_dircopycontents(true);
    REQUIRE(copy(from, to, a).ok());
    CHECK(to.list() == "l one sub/ sub/two");
    CHECK(to.text("one") == "x");
    CHECK((to.info("sub").st_mode & 07777) == 0755);
  }
}

TEST_CASE("owner, mode and time of the action win over the source's") {
  tree from;
  from.file("d/f");
  tree to;
  auto a = copy_of("/d", "/new/");
  a.set_dircopycontents(true);
  a.set_mode(04750);
  a.set_timestamp(1'000'000'000);
  REQUIRE(copy(from, to, a, file_owner{7, 8}).ok());
  for (auto name : {"new", "new/f"}) {
    auto s = to.info(name);
    INFO(name);
    CHECK((s.st_mode & 07777) ==
          (std::string_view(name) == "new" ? 0750 : 04750));  // set-id bits: of what is copied
    CHECK((s.st_uid == 7 && s.st_gid == 8));
    CHECK(s.st_mtim.tv_sec == 1);
  }
  tree other;
  a = copy_of("/d/f", "/f");
  a.set_modestr("u+x,go=");
  REQUIRE(copy(from, other, a).ok());
  CHECK((other.info("f").st_mode & 07777) == 0700);
}

TEST_CASE(
    "a mode told as text changes what is copied, and new directories on the way are made as without one") {
  tree from;
  from.file("t/plain", "x", 0640)
      .file("t/exe", "x", 0751)
      .file("t/d/in", "x", 0600)
      .dir("t/d", 0700)
      .dir("t", 0750);
  tree to;
  to.dir("there", 0700);
  auto a = copy_of("/t", "/a/b/c");
  a.set_dircopycontents(true);
  a.set_mode(0);  // as Go's client has it beside a text
  a.set_modestr("u=rwX,go=rX");
  REQUIRE(copy(from, to, a).ok());
  a.set_src("/t/d");
  a.set_dest("/there");
  REQUIRE(copy(from, to, a).ok());
  std::map<std::string, mode_t> expected{{"a", 0755},           {"a/b", 0755},       {"a/b/c", 0755},
                                         {"a/b/c/plain", 0644}, {"a/b/c/exe", 0755}, {"a/b/c/d", 0755},
                                         {"a/b/c/d/in", 0644},  {"there", 0700},     {"there/in", 0644}};
  for (const auto& [name, mode] : expected) {
    INFO(name);
    CHECK((to.info(name).st_mode & 07777) == mode);
  }
}

TEST_CASE(
    "hard links hold within one source of a copy: what an earlier one made may be another file by now") {
  tree from;
  from.file("x/n", "one").file("y/n", "two");
  fs::create_hard_link(from.path / "x/n", from.path / "y/z");
  tree to;
  auto a = copy_of("/*/*", "/out/");
  a.set_allowwildcard(true);
  REQUIRE(copy(from, to, a).ok());
  CHECK(to.text("out/n") == "two");
  CHECK(to.text("out/z") == "one");
  tree whole;
  a = copy_of("/*", "/out/");
  a.set_allowwildcard(true);
  a.set_dircopycontents(true);
  fs::create_hard_link(from.path / "y/z", from.path / "y/zz");
  REQUIRE(copy(from, whole, a).ok());
  CHECK(whole.text("out/n") == "two");
  CHECK(whole.text("out/z") == "one");
  CHECK(whole.info("out/z").st_ino == whole.info("out/zz").st_ino);
}

TEST_CASE("a wildcard below what does not exist is an error, whatever is allowed to be empty") {
  tree from;
  from.file("plain").file("there/x.c").link("way", "there");
  tree to;
  auto a = copy_of("/dist/*.js", "/out/");
  a.set_allowwildcard(true);
  a.set_allowemptywildcard(true);
  auto missing = copy(from, to, a);
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.error().code == errc::not_found);
  CHECK(missing.error().message == "lstat /dist: no such file or directory");
  CHECK(to.list().empty());
  for (auto fine : {"/there/*.js", "/plain/*.js", "/*.js", "/there/[x]*/nothing"}) {
    INFO(fine);
    a.set_src(fine);
    CHECK(copy(from, to, a).ok());
  }
  // A link in the fixed part is followed where links are.
  a.set_src("/way/*.c");
  CHECK(copy(from, to, a).ok());
  CHECK(to.list().empty());
  a.set_followsymlink(true);
  CHECK(copy(from, to, a).ok());
  CHECK(to.list() == "out/ out/x.c");
  pb::FileActionRm r;
  r.set_path("/dist/*");
  r.set_allowwildcard(true);
  CHECK(remove_path(from.fd.get(), r).error().message == "lstat /dist: no such file or directory");
  r.set_allownotfound(true);
  CHECK(remove_path(from.fd.get(), r).ok());
  r.set_path("/way/*");
  CHECK(remove_path(from.fd.get(), r).ok());
  CHECK(from.list() == "plain there/ there/x.c way");
}

TEST_CASE("a wildcard reaches as deep as its pattern") {
  tree from;
  std::string deep, pattern;
  for (int i = 0; i < 300; ++i) deep += "d/", pattern += "*/";
  from.file(deep + "f");
  tree to;
  auto a = copy_of("/" + pattern + "f", "/");
  a.set_allowwildcard(true);
  REQUIRE(copy(from, to, a).ok());
  CHECK(to.list() == "f");
}

TEST_CASE("names that are no UTF-8 are copied, matched and made like others") {
  tree from;
  from.file("latin\xe9.txt", "e").file("sub/\xff\xfe", "bytes").link("\xfe", "latin\xe9.txt");
  tree to;
  auto a = copy_of("/*", "/out/");
  a.set_allowwildcard(true);
  REQUIRE(copy(from, to, a).ok());
  CHECK(to.list() == "out/ out/latin\xe9.txt out/sub/ out/sub/\xff\xfe out/\xfe");
  CHECK(fs::read_symlink(to.path / "out/\xfe") == "latin\xe9.txt");
  tree picked;
  a = copy_of("/latin?.txt", "/\xe8/");
  a.set_allowwildcard(true);
  REQUIRE(copy(from, picked, a).ok());
  CHECK(picked.list() == "\xe8/ \xe8/latin\xe9.txt");
  tree rest;
  a = copy_of("/", "/");
  a.set_dircopycontents(true);
  a.add_exclude_patterns("sub/\xff*");
  REQUIRE(copy(from, rest, a).ok());
  CHECK(rest.list() == "latin\xe9.txt sub/ \xfe");
}

TEST_CASE("wildcards copy each match; none is an error unless allowed") {
  tree from;
  from.file("a.txt").file("b.txt").file("c.md");
  tree to;
  auto a = copy_of("/*.txt", "/out/");
  a.set_allowwildcard(true);
  REQUIRE(copy(from, to, a).ok());
  CHECK(to.list() == "out/ out/a.txt out/b.txt");
  a = copy_of("/*.zip", "/out/");
  a.set_allowwildcard(true);
  CHECK(copy(from, to, a).error().message == "/*.zip not found");
  a.set_allowemptywildcard(true);
  CHECK(copy(from, to, a).ok());
  CHECK(copy(from, to, copy_of("/missing", "/")).error().code == errc::not_found);
}

TEST_CASE("include patterns make only the directories that hold a match") {
  tree from;
  from.file("src/a/x.c").file("src/a/x.o").file("src/b/y.o").file("src/z.c");
  tree to;
  auto a = copy_of("/src", "/out/");
  a.set_dircopycontents(true);
  a.add_include_patterns("**/*.c");
  REQUIRE(copy(from, to, a).ok());
  CHECK(to.list() == "out/ out/a/ out/a/x.c out/z.c");
  tree rest;
  a.clear_include_patterns();
  a.add_exclude_patterns("a");
  a.add_exclude_patterns("!a/x.c");
  REQUIRE(copy(from, rest, a).ok());
  CHECK(rest.list() == "out/ out/a/ out/a/x.c out/b/ out/b/y.o out/z.c");
}

TEST_CASE("a tree as deep as the store takes it is copied, a deeper one refused with that reason") {
  for (int levels : {store::limits::tree_depth, store::limits::tree_depth + 1}) {
    tree from, to;
    unique_fd at{dup(from.fd.get())};
    for (int i = 0; i < levels; ++i) {
      REQUIRE(mkdirat(at.get(), "d", 0755) == 0);
      at = unique_fd{openat(at.get(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
      REQUIRE(at);
    }
    auto whole = copy_of("/", "/");
    whole.set_dircopycontents(true);
    auto copied = copy(from, to, whole);
    if (levels <= store::limits::tree_depth) {
      CHECK(copied.ok());
    } else {
      REQUIRE_FALSE(copied.ok());
      CHECK(copied.error().code == errc::out_of_range);
      CHECK(copied.error().message.find("nested too deeply") != std::string::npos);
    }
    for (const auto& t : {from.path, to.path})
      CHECK(kiln::empty_directory(t).ok());  // deeper than a path reaches
  }
}

TEST_CASE("hard links stay links, fifos and devices stay what they are") {
  tree from;
  from.file("d/one");
  fs::create_hard_link(from.path / "d/one", from.path / "d/two");
  mkfifo((from.path / "d/pipe").c_str(), 0600);
  tree to;
  auto a = copy_of("/d", "/");
  a.set_dircopycontents(true);
  REQUIRE(copy(from, to, a).ok());
  CHECK(to.info("one").st_ino == to.info("two").st_ino);
  CHECK(S_ISFIFO(to.info("pipe").st_mode));
}

TEST_CASE(
    "a destination that is a symlink is resolved inside the root, a nested one is never written through") {
  tree from;
  from.file("d/sub/f", "data");
  tree to;
  to.link("outside", "/../../../../tmp").dir("tmp");
  REQUIRE(copy(from, to, copy_of("/d/sub/f", "/outside/kiln-escape")).ok());
  CHECK(to.text("tmp/kiln-escape") == "data");
  CHECK_FALSE(fs::exists("/tmp/kiln-escape"));

  tree nested;
  nested.link("sub", "/tmp");
  auto a = copy_of("/d", "/");
  a.set_dircopycontents(true);
  CHECK(copy(from, nested, a).error().message.find("cannot copy to non-directory") != std::string::npos);
  a.set_alwaysreplaceexistingdestpaths(true);
  REQUIRE(copy(from, nested, a).ok());
  CHECK(nested.list() == "sub/ sub/f");
}

TEST_CASE("a file does not replace a directory unless told to") {
  tree from;
  from.file("d/x", "file");
  tree to;
  to.file("x/inside");
  auto a = copy_of("/d", "/");
  a.set_dircopycontents(true);
  CHECK(copy(from, to, a).error().message.find("cannot replace to directory") != std::string::npos);
  a.set_alwaysreplaceexistingdestpaths(true);
  REQUIRE(copy(from, to, a).ok());
  CHECK(to.list() == "x");
}

TEST_CASE("without createDestPath the parent must be there") {
  tree from;
  from.file("f");
  tree to;
  auto a = copy_of("/f", "/no/where");
  a.set_createdestpath(false);
  CHECK(copy(from, to, a).error().message.find("failed to stat /no/where") == 0);
}
