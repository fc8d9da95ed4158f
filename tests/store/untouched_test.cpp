#include "store/untouched.hpp"
#include "store_fixture.hpp"

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;

namespace {

/// Three trees as overlay layers would have them.
struct layers {
  temporary_root root;
  fs::path bottom = root.path() / "bottom", middle = root.path() / "middle", upper = root.path() / "upper";

  layers() {
    for (const auto& p : {bottom, middle, upper}) fs::create_directories(p);
  }
  void prune() {
    std::vector<fs::path> below{bottom, middle};
    must(remove_untouched_directories(upper, below, false));
  }
};

}  // namespace

TEST_CASE("A directory that was only copied up is no change") {
  layers l;
  write(l.bottom / "etc/passwd", "x");
  fs::create_directories(l.upper / "etc");
  l.prune();
  CHECK_FALSE(fs::exists(l.upper / "etc"));
}

TEST_CASE("Directories with anything of their own stay") {
  layers l;
  fs::create_directories(l.bottom / "a");
  fs::create_directories(l.bottom / "mode");
  fs::create_directories(l.middle / "b/c");
  write(l.upper / "a/file", "x");
  fs::create_directories(l.upper / "b/c/new");
  fs::create_directories(l.upper / "mode");
  fs::permissions(l.upper / "mode", fs::perms::owner_all);
  l.prune();
  CHECK(fs::exists(l.upper / "a/file"));
  CHECK(fs::exists(l.upper / "b/c/new"));
  CHECK(fs::exists(l.upper / "mode"));
}

TEST_CASE("What a layer between hides does not count as below") {
  layers l;
  fs::create_directories(l.bottom / "gone");
  REQUIRE(::mknod((l.middle / "gone").c_str(), S_IFCHR, makedev(0, 0)) == 0);
  fs::create_directories(l.upper / "gone");
  l.prune();
  CHECK(fs::exists(l.upper / "gone"));
}

TEST_CASE("A committed step keeps no directory it did not change") {
  temporary_root root;
  auto store = open_store(root, snapshotter_kind::automatic);
  auto base = layer_of(*store, {}, {{"etc/passwd", "x"}});
  auto s = begin(*store, base);
  write(s.path() / "etc/resolv.conf", "");
  fs::remove(s.path() / "etc/resolv.conf");
  write(s.path() / "made", "1");
  must(s.mount.unmount());
  auto step = must(store->commit(std::move(s.ref)));
  auto difference = must(store->diff(base, step, {}));
  CHECK(listing(*store, difference) == std::map<std::string, std::string>{{"made", "1"}});
  CHECK(listing(*store, step).contains("etc/passwd"));
}
