// What layers changed, as opposed to what their upper directories hold.
#include "store/files/difference.hpp"
#include "store_fixture.hpp"

#include <sys/xattr.h>

#include <chrono>

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;

namespace {

using files = std::map<std::string, std::string>;

/// A step that moves files there and back: an overlay copies them up, their directories get another time.
ref shuffled(ref_store& store, const ref& base, const std::vector<std::string>& names) {
  auto s = begin(store, base);
  for (const auto& name : names) {
    fs::rename(s.path() / name, s.path() / (name + ".tmp"));
    fs::rename(s.path() / (name + ".tmp"), s.path() / name);
    auto directory = (s.path() / name).parent_path();
    fs::last_write_time(directory, fs::last_write_time(directory) + std::chrono::hours(1));
  }
  write(s.path() / "made", "m");
  return end(store, std::move(s));
}

/// A step that removes a directory and makes it again with another file.
ref remade(ref_store& store, const ref& base, const std::string& directory, const std::string& file) {
  auto s = begin(store, base);
  fs::remove_all(s.path() / directory);
  write(s.path() / directory / file, "new");
  return end(store, std::move(s));
}

/// The same ref as its image would be: each layer unpacked from its tar, on top of `base`.
ref through_image(ref_store& store, memory_provider& provider, const ref& r, ref base = {}) {
  for (const auto& layer : must(store.layers().of(r, {}))) {
    auto blob = provider.add(tar_of(store, layer.id));
    base = must(store.layer(base, blob, {&provider, [](auto*) {}}, {}));
  }
  return base;
}

ref merge_of(ref_store& store, const std::vector<ref>& inputs) { return must(store.merge(inputs, {})); }

}  // namespace

// moby/buildkit client suite, TestDiffShuffleFiles.
TEST_CASE("A file moved away and back, and the directory it was in, are no difference") {
  auto kind = GENERATE(snapshotter_kind::automatic, snapshotter_kind::native);
  temporary_root root;
  memory_provider provider;
  auto store = open_store(root, kind);
  auto base = layer_of(*store, {}, {{"top", "t"}, {"d/file", "f"}, {"d/e/deep", "x"}});
  auto step = shuffled(*store, base, {"top", "d/file", "d/e/deep"});
  auto difference = must(store->diff(base, step, {}));
  files expected{{"made", "m"}};
  CHECK(listing(*store, difference) == expected);
  CHECK(listing(*store, through_image(*store, provider, difference)) == expected);
  // Whoever goes on from the step sees it as it was left.
  auto base_mount = mount_of(*store, base), step_mount = mount_of(*store, step);
  CHECK(fs::last_write_time(step_mount.path() / "d") > fs::last_write_time(base_mount.path() / "d"));
}

TEST_CASE("A difference overwrites nothing that its layers left alone") {
  auto kind = GENERATE(snapshotter_kind::automatic, snapshotter_kind::native);
  temporary_root root;
  auto store = open_store(root, kind);
  auto base = layer_of(*store, {}, {{"d/file", "f"}});
  auto ground = layer_of(*store, base, {{"d/file", "changed since"}});
  auto difference = must(store->diff(base, shuffled(*store, base, {"d/file"}), {}));
  auto merged = merge_of(*store, {ground, difference});
  CHECK(listing(*store, merged).at("d/file") == "changed since");
}

// moby/buildkit client suite, TestDiffOpaqueDirsMerge.
TEST_CASE("The image of a directory removed and made again hides only what it hid where that was done") {
  auto kind = GENERATE(snapshotter_kind::automatic, snapshotter_kind::native);
  temporary_root root;
  memory_provider provider;
  auto store = open_store(root, kind);
  auto base = layer_of(*store, {}, {{"d/old", "o"}, {"d/sub/older", "o"}});
  auto rebased = layer_of(*store, base, {{"d/kept", "k"}, {"d/sub/gone", "g"}});
  auto difference = must(store->diff(base, remade(*store, base, "d", "new"), {}));
  files expected{{"d", "/"}, {"d/kept", "k"}, {"d/new", "new"}};
  CHECK(listing(*store, merge_of(*store, {rebased, difference})) == expected);
  CHECK(listing(*store, through_image(*store, provider, difference, rebased)) == expected);
  auto tar = tar_of(*store, must(store->layers().of(difference, {}))[0].id);
  CHECK(tar.find(".wh..wh..opq") == std::string::npos);
  CHECK(tar.find("d/.wh.old") != std::string::npos);
  CHECK(tar.find("d/.wh.sub") != std::string::npos);
}

TEST_CASE("Layers that are not plain share their files with their plain form, and both are counted once") {
  temporary_root root;
  auto store = open_store(root);
  auto base = layer_of(*store, {}, {{"d/old", "o"}});
  auto s = begin(*store, base);
  fs::remove_all(s.path() / "d");
  write(s.path() / "d/big", std::string(1 << 20, 'b'));
  auto step = end(*store, std::move(s));
  auto difference = must(store->diff(base, step, {}));
  auto mount = mount_of(*store, difference);
  if (must(store->files().mounts(step, {}))[0].type == "bind") return;  // without overlays
  std::int64_t total = 0;
  for (const auto& u : must(store->space().disk_usage({}))) total += u.size;
  CHECK(total > 1 << 20);
  CHECK(total < 3 << 19);
}

TEST_CASE("An upper directory is plain when it holds changes and nothing else") {
  temporary_root root;
  auto lower = root.path() / "lower", upper = root.path() / "upper";
  for (const auto& p : {lower, upper}) fs::create_directories(p);
  write(lower / "d/a", "a");
  write(lower / "d/b", "b");
  auto plain = [&] { return must(holds_only_changes(lower, upper, false, {})); };
  auto whiteout = [&](const char* name) {
    REQUIRE(::mknod((upper / name).c_str(), S_IFCHR, ::makedev(0, 0)) == 0);
  };
  auto changes = [&] {
    std::map<std::string, change> told;
    must(for_each_layer_change(lower, upper, false, {}, [&](const changed_entry& c) -> status {
      told[c.path] = c.kind;
      return {};
    }));
    return told;
  };
  using told = std::map<std::string, change>;
  CHECK(plain());
  fs::create_directories(upper / "d");
  CHECK_FALSE(plain());
  CHECK(changes().empty());
  whiteout("d/a");
  CHECK(plain());
  CHECK(changes() == told{{"d/a", change::removed}});
  whiteout("d/never");
  CHECK_FALSE(plain());
  CHECK(changes() == told{{"d/a", change::removed}});
  fs::remove(upper / "d/never");
  write(upper / "new/x", "x");
  CHECK(plain());
  REQUIRE(::lsetxattr((upper / "new").c_str(), "trusted.overlay.opaque", "y", 1, 0) == 0);
  CHECK_FALSE(plain());
  CHECK(changes() == told{{"d/a", change::removed}, {"new", change::added}, {"new/x", change::added}});
  fs::remove_all(upper / "new");
  fs::copy_file(lower / "d/b", upper / "d/b");
  fs::last_write_time(upper / "d/b", fs::last_write_time(lower / "d/b"));
  CHECK_FALSE(plain());
  CHECK(changes() == told{{"d/a", change::removed}});
  write(upper / "d/b", "other");
  CHECK(plain());
  CHECK(changes() == told{{"d/a", change::removed}, {"d/b", change::modified}});
  fs::remove(upper / "d/b");
  fs::remove(upper / "d/a");
  REQUIRE(::lsetxattr((upper / "d").c_str(), "trusted.overlay.opaque", "y", 1, 0) == 0);
  CHECK_FALSE(plain());
  CHECK(changes() == told{{"d/a", change::removed}, {"d/b", change::removed}});
}
