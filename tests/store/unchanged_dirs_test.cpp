#include "store/files/unchanged_dirs.hpp"
#include "store_fixture.hpp"

#include <chrono>

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
  /// Gives a directory of the upper tree the time of one below.
  void same_time(const char* name, const fs::path& below) {
    fs::last_write_time(upper / name, fs::last_write_time(below / name));
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
  l.same_time("etc", l.bottom);
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
  fs::create_directories(l.bottom / "time");
  fs::create_directories(l.upper / "time");
  l.same_time("mode", l.bottom);
  l.same_time("a", l.bottom);
  fs::last_write_time(l.upper / "time", fs::last_write_time(l.bottom / "time") + std::chrono::hours(1));
  l.prune();
  CHECK(fs::exists(l.upper / "a/file"));
  CHECK(fs::exists(l.upper / "b/c/new"));
  CHECK(fs::exists(l.upper / "mode"));
  CHECK(fs::exists(l.upper / "time"));
}

TEST_CASE("What a layer between hides does not count as below") {
  layers l;
  fs::create_directories(l.bottom / "gone");
  REQUIRE(::mknod((l.middle / "gone").c_str(), S_IFCHR, makedev(0, 0)) == 0);
  fs::create_directories(l.upper / "gone");
  l.same_time("gone", l.bottom);
  l.prune();
  CHECK(fs::exists(l.upper / "gone"));
}

TEST_CASE("A committed step keeps no directory it did not change") {
  temporary_root root;
  auto store = open_store(root, snapshotter_kind::automatic);
  auto base = layer_of(*store, {}, {{"etc/passwd", "x"}});
  auto s = begin(*store, base);
  auto before = fs::last_write_time(s.path() / "etc");
  write(s.path() / "etc/resolv.conf", "");
  fs::remove(s.path() / "etc/resolv.conf");
  fs::last_write_time(s.path() / "etc", before);
  write(s.path() / "made", "1");
  must(s.mount.unmount());
  auto step = must(store->commit(std::move(s.ref)));
  auto difference = must(store->diff(base, step, {}));
  CHECK(listing(*store, difference) == std::map<std::string, std::string>{{"made", "1"}});
  CHECK(listing(*store, step).contains("etc/passwd"));
}
