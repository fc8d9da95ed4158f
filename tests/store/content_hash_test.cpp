#include "store_fixture.hpp"

#include <sys/xattr.h>

#include "store/hashing/content_hash.hpp"
#include "store/hashing/file_digest.hpp"
#include "store/hashing/tree_digests.hpp"

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;

namespace {

std::string picked(const fs::path& top, const content_selector& s) {
  tree_digests tree(must(open_file(top, O_RDONLY | O_DIRECTORY)), job_context{});
  return must(tree.select(s)).str();
}
std::string sum(const fs::path& top, const std::string& path = "/") { return picked(top, {.path = path}); }

/// Runs `change` and tells whether the digest of the whole changed.
template <class F>
bool changes(const fs::path& top, F change) {
  auto before = sum(top);
  change();
  return sum(top) != before;
}

const std::string nothing = sha256("").str();

}  // namespace

TEST_CASE("The header of a file is that of tarsum") {
  struct stat info {};
  info.st_mode = S_IFREG | 04755;
  info.st_uid = 1;
  info.st_gid = 2;
  info.st_size = 5;
  CHECK(tarsum_header(info, "",
                      {{"user.b", "2"},
                       {"user.a", "1"},
                       {"security.selinux", "s"},
                       {"security.capability", "c"},
                       {"system.posix_acl_access", "p"},
                       {"trusted.overlay.origin", "o"}}) ==
        "namemode2541uid1gid2size5typeflag0linknameunamegnamedevmajor0devminor0security.capabilitycuser."
        "a1user.b2");
  info.st_mode = S_IFLNK | 0777;
  CHECK(tarsum_header(info, "to", {}) ==
        "namemode511uid1gid2size0typeflag2linknametounamegnamedevmajor0devminor0");
}

TEST_CASE("A directory's digest is made of its header and its children's") {
  temporary_root root;
  auto top = root.path() / "t";
  write(top / "d/b", "b");
  write(top / "d/a/x", "x");
  auto header = [&](const fs::path& p) {
    auto dir = must(open_file(p.parent_path(), O_RDONLY | O_DIRECTORY));
    struct stat info {};
    REQUIRE(::lstat(p.c_str(), &info) == 0);
    return must(file_digest(dir.get(), p.filename(), info, {}));
  };
  std::string zero(1, '\0');
  auto a = sha256(zero + header(top / "d/a") + zero + "x" + header(top / "d/a/x")).str();
  auto d = sha256(zero + header(top / "d") + zero + "a" + a + zero + "b" + header(top / "d/b")).str();
  CHECK(sum(top, "d") == d);
  CHECK(sum(top, "/d/") == d);
  CHECK(sum(top, "d/a/../b") == header(top / "d/b"));
}

TEST_CASE("Content, names, modes, owners, attributes and links count; times do not") {
  temporary_root root;
  auto top = root.path() / "t";
  write(top / "d/f", "text");
  write(top / "g", "g");
  fs::create_symlink("f", top / "d/l");
  CHECK(!changes(top, [&] {
    const timespec times[2] = {{1, 2}, {3, 4}};
    REQUIRE(::utimensat(AT_FDCWD, (top / "d/f").c_str(), times, 0) == 0);
    REQUIRE(::utimensat(AT_FDCWD, (top / "d").c_str(), times, 0) == 0);
  }));
  CHECK(changes(top, [&] { write(top / "d/f", "texT"); }));
  CHECK(changes(top, [&] { REQUIRE(::chmod((top / "d/f").c_str(), 0600) == 0); }));
  CHECK(changes(top, [&] { REQUIRE(::chown((top / "d/f").c_str(), 1, 0) == 0); }));
  CHECK(changes(top, [&] { REQUIRE(::lsetxattr((top / "d/f").c_str(), "user.x", "1", 1, 0) == 0); }));
  CHECK(changes(top, [&] { REQUIRE(::chmod((top / "d").c_str(), 0700) == 0); }));
  CHECK(changes(top, [&] { fs::rename(top / "d/f", top / "d/f2"); }));
  CHECK(changes(top, [&] {
    fs::remove(top / "d/l");
    fs::create_symlink("g", top / "d/l");
  }));
  CHECK(changes(top, [&] { fs::create_directory(top / "d/empty"); }));
  // A hard link has the digest of its file.
  fs::create_hard_link(top / "g", top / "g2");
  CHECK(sum(top, "g") == sum(top, "g2"));
}

TEST_CASE("Links are followed inside the root only, and only where asked") {
  temporary_root root;
  auto top = root.path() / "t";
  write(top / "real/file", "inside");
  write(root.path() / "secret", "outside");
  fs::create_symlink("/real", top / "dir");
  fs::create_symlink("../../../secret", top / "out");
  write(top / "secret", "inside too");
  fs::create_symlink("loop", top / "loop");
  fs::create_symlink("nowhere", top / "broken");
  CHECK(sum(top, "dir/file") == sum(top, "real/file"));
  CHECK(picked(top, {.path = "dir", .follow_links = true}) == sum(top, "real"));
  CHECK(sum(top, "dir") != sum(top, "real"));
  CHECK(picked(top, {.path = "out", .follow_links = true}) == sum(top, "secret"));
  CHECK(sum(top, "dir/../real/file") == sum(top, "real/file"));
  tree_digests tree(must(open_file(top, O_RDONLY | O_DIRECTORY)), job_context{});
  CHECK(tree.select({.path = "loop", .follow_links = true}).error().message == "too many links");
  CHECK(tree.select({.path = "broken", .follow_links = true}).error().code == errc::not_found);
  CHECK(tree.select({.path = "none/such"}).error().message == "\"/none/such\": not found");
  CHECK(tree.select({.path = "real/file/below"}).error().code == errc::not_found);
}

TEST_CASE("A path with a NUL is no other path") {
  temporary_root root;
  auto top = root.path() / "t";
  write(top / "d/e/file", "x");
  for (bool wildcard : {false, true}) {
    tree_digests tree(must(open_file(top, O_RDONLY | O_DIRECTORY)), job_context{});
    auto sum =
        tree.select({.path = std::string("/d\0x", 4), .wildcard = wildcard, .include_patterns = {"**"}});
    REQUIRE_FALSE(sum.ok());
    CHECK(sum.error().code == errc::invalid_argument);
  }
  CHECK(open_file(top / std::string("d\0x", 3), O_RDONLY).error().code == errc::invalid_argument);
}

TEST_CASE("Wildcards pick files; a lone match of the same name is the file itself") {
  temporary_root root;
  auto top = root.path() / "t";
  for (auto name : {"foo", "fox", "bar", "x/d0/abc", "x/d1/abc"}) write(top / name, name);
  std::string zero(1, '\0');
  CHECK(picked(top, {.path = "fo[o]", .wildcard = true}) == sha256(zero + "foo" + sum(top, "foo")).str());
  CHECK(picked(top, {.path = "f*", .wildcard = true}) ==
        sha256(zero + "foo" + sum(top, "foo") + zero + "fox" + sum(top, "fox")).str());
  CHECK(picked(top, {.path = "foo", .wildcard = true}) == sum(top, "foo"));
  CHECK(picked(top, {.path = "x/*/abc", .wildcard = true}) !=
        picked(top, {.path = "x/d0/abc", .wildcard = true}));
  CHECK(picked(top, {.path = "nothing*", .wildcard = true}) == nothing);
  // Nothing there is not nothing that matches: the copy fails, and no key of one that did not may hide it.
  write(top / "dist/x.c", "");
  auto there = picked(top, {.path = "dist/*.js", .wildcard = true});
  CHECK(there == nothing);
  fs::remove_all(top / "dist");
  CHECK(picked(top, {.path = "dist/*.js", .wildcard = true}) != there);
  // Under a link, names are those that were asked for.
  fs::create_symlink("x", top / "y");
  CHECK(picked(top, {.path = "y/d?", .wildcard = true}) == picked(top, {.path = "x/d?", .wildcard = true}));
  tree_digests tree(must(open_file(top, O_RDONLY | O_DIRECTORY)), job_context{});
  CHECK(!tree.select({.path = "a[", .wildcard = true}).ok());
}

TEST_CASE("Include and exclude patterns decide what counts") {
  temporary_root root;
  auto top = root.path() / "t";
  for (auto name : {"src/a.c", "src/a.h", "src/sub/b.c", "doc/x.md"}) write(top / name, name);
  content_selector c_files{.path = "/", .include_patterns = {"**/*.c"}};
  auto before = picked(top, c_files);
  CHECK(before != nothing);
  write(top / "src/a.h", "changed");
  write(top / "doc/y.md", "new");
  CHECK(picked(top, c_files) == before);
  write(top / "src/sub/b.c", "changed");
  CHECK(picked(top, c_files) != before);
  content_selector no_docs{.path = "/", .exclude_patterns = {"doc", "*.tmp"}};
  before = picked(top, no_docs);
  write(top / "doc/z.md", "new");
  write(top / "x.tmp", "new");
  CHECK(picked(top, no_docs) == before);
  write(top / "src/new", "new");
  CHECK(picked(top, no_docs) != before);
  CHECK(picked(top, {.path = "/", .include_patterns = {"none"}}) == nothing);
  CHECK(picked(top, {.path = "missing", .include_patterns = {"a"}}) == nothing);
  CHECK(picked(top, {.path = "/", .include_patterns = {"src", "!src/a.c"}}) !=
        picked(top, {.path = "/", .include_patterns = {"src"}}));
  tree_digests tree(must(open_file(top, O_RDONLY | O_DIRECTORY)), job_context{});
  CHECK(tree.select({.path = "/", .include_patterns = {"**/*.c"}, .required_paths = {"/none"}})
            .error()
            .message == "\"/none\": not found");
  CHECK(tree.select({.path = "/", .include_patterns = {"**/*.c"}, .required_paths = {"/src"}}).ok());
  CHECK(tree.select({.path = "/", .include_patterns = {"["}})
            .error()
            .message.find("invalid includepatterns: [[]") == 0);
}

TEST_CASE("A ref's digest does not depend on its layering, and is kept") {
  temporary_root root;
  auto store = open_store(root);
  auto flat = layer_of(*store, {}, {{"a", "1"}, {"d/b", "2"}, {"d/c", "3"}});
  auto base = layer_of(*store, {}, {{"a", "old"}, {"d/b", "2"}, {"d/gone", "x"}});
  auto layered = layer_of(*store, base, {{"a", "1"}, {"d/gone", nullptr}, {"d/c", "3"}});
  for (const auto& path : {"/", "/d", "/a", "/d/c"}) {
    auto x = must(content_checksum(*store, flat, {{.path = path}}, {}));
    CHECK(x == must(content_checksum(*store, layered, {{.path = path}}, {})));
    CHECK(x == must(content_checksum(*store, layered, {{.path = path}}, {})));
  }
  auto first = must(content_checksum(*store, flat, {{.path = "/a"}, {.path = "/d"}}, {}));
  auto other = must(content_checksum(*store, flat, {{.path = "/d"}, {.path = "/a"}}, {}));
  CHECK(first != other);
  CHECK(must(content_checksum(*store, flat, {}, {})) ==
        must(content_checksum(*store, flat, {{.path = "/"}}, {})));
  auto missing = content_checksum(*store, flat, {{.path = "/nosuch"}}, {});
  REQUIRE(!missing.ok());
  CHECK(missing.error().message ==
        "failed to calculate checksum of ref " + flat.id() + ": \"/nosuch\": not found");
  CHECK(content_checksum(*store, {}, {{.path = "/x"}}, {}).error().code == errc::not_found);
  CHECK(must(content_checksum(*store, {}, {}, {})) == sha256(nothing));
}

TEST_CASE("Copies of a local source take over the digests of unchanged files, and only of those") {
  temporary_root root;
  auto store = open_store(root);
  auto m = must(store->acquire_named("local", {}, {}, {}));
  auto mount = must(mounted::make(*store, must(store->files().mounts(m))));
  auto put = [&](const std::string& name, std::string_view text) {  // as the receiver does: always a new file
    write(mount.path() / (name + ".tmp"), text);
    fs::rename(mount.path() / (name + ".tmp"), mount.path() / name);
  };
  put("same", "same");
  put("changed", "before");
  auto one = must(store->commit_copy(m, {}, {}));
  auto first = must(content_checksum(*store, one, {}, {}));
  // The same size and time, as a careless tool might leave them.
  auto times = fs::last_write_time(mount.path() / "changed");
  put("changed", "after!");
  fs::last_write_time(mount.path() / "changed", times);
  auto two = must(store->commit_copy(m, {}, {}));
  auto second = must(content_checksum(*store, two, {}, {}));
  CHECK(first != second);
  auto fresh = layer_of(*store, {}, {{"same", "same"}, {"changed", "after!"}});
  CHECK(second == must(content_checksum(*store, fresh, {}, {})));
  put("changed", "before");
  auto three = must(store->commit_copy(m, {}, {}));
  CHECK(must(content_checksum(*store, three, {}, {})) == first);
}

TEST_CASE("Saved digests are taken in again, and garbage is not") {
  temporary_root root;
  auto top = root.path() / "t";
  write(top / "f", "x");
  tree_digests tree(must(open_file(top, O_RDONLY | O_DIRECTORY)), job_context{});
  auto d = must(tree.select({.path = "/"}));
  CHECK(tree.has_news());
  auto saved = tree.save();
  tree_digests again(must(open_file(top, O_RDONLY | O_DIRECTORY)), job_context{});
  again.load(saved);
  CHECK(must(again.select({.path = "/"})) == d);
  CHECK(!again.has_news());
  for (std::size_t cut = 0; cut < saved.size(); cut += 7) {
    tree_digests partial(must(open_file(top, O_RDONLY | O_DIRECTORY)), job_context{});
    partial.load(saved.substr(0, cut));
    CHECK(must(partial.select({.path = "/"})) == d);
  }
}
