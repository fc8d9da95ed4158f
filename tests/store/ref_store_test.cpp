#include "store_fixture.hpp"

#include <thread>

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;

TEST_CASE("A committed snapshot is found again after a restart, with what was written") {
  temporary_root root;
  std::string id;
  {
    auto store = open_store(root);
    auto r = layer_of(*store, {}, {{"a/b", "hello"}}, {.description = "first"});
    id = r.id();
    CHECK(listing(*store, r).at("a/b") == "hello");
  }
  auto store = open_store(root);
  auto r = must(store->get(id));
  CHECK(listing(*store, r) == std::map<std::string, std::string>{{"a", "/"}, {"a/b", "hello"}});
  CHECK(store->get("nosuchrecord").error().code == errc::not_found);
}

TEST_CASE("Layers cover those below and removals go through") {
  auto kind = GENERATE(snapshotter_kind::automatic, snapshotter_kind::native);
  temporary_root root;
  auto store = open_store(root, kind);
  auto base = layer_of(*store, {}, {{"keep", "1"}, {"change", "old"}, {"dir/x", "x"}, {"dir/y", "y"}});
  auto top = layer_of(*store, base, {{"change", "new"}, {"dir/x", nullptr}, {"added", "2"}});
  CHECK(listing(*store, top) ==
        std::map<std::string, std::string>{
            {"keep", "1"}, {"change", "new"}, {"dir", "/"}, {"dir/y", "y"}, {"added", "2"}});
  CHECK(listing(*store, base).at("change") == "old");
  CHECK(listing(*store, base).contains("dir/x"));
}

TEST_CASE("An uncommitted snapshot leaves nothing behind") {
  temporary_root root;
  auto store = open_store(root);
  {
    auto s = begin(*store, {});
    write(s.path() / "f", "x");
    must(s.mount.unmount());
  }
  CHECK(must(store->space().disk_usage({})).empty());
  CHECK(fs::is_empty(root.path() / "transient"));
  int snapshots = 0;
  for (const auto& e : fs::directory_iterator(root.path() / "snapshots"))
    snapshots += e.path().filename() != "empty";
  CHECK(snapshots == 0);
}

TEST_CASE("A frozen snapshot can be looked at and written over, and goes with its last handle") {
  temporary_root root;
  auto store = open_store(root);
  auto base = layer_of(*store, {}, {{"below", "1"}});
  {
    auto s = begin(*store, base);
    write(s.path() / "f", "half done");
    must(s.mount.unmount());
    auto frozen = must(store->freeze(std::move(s.ref)));
    CHECK(listing(*store, frozen) == std::map<std::string, std::string>{{"below", "1"}, {"f", "half done"}});
    CHECK(must(store->get(frozen.id())).id() == frozen.id());
    auto top = begin(*store, frozen);
    write(top.path() / "g", "scratchpad");
    CHECK(read(top.path() / "f") == "half done");
    // A name would outlive it.
    CHECK(!store->acquire_named("n", frozen, {}, {}).ok());
  }
  CHECK(must(store->space().disk_usage({})).size() == 1);
  int snapshots = 0;
  for (const auto& e : fs::directory_iterator(root.path() / "snapshots"))
    snapshots += e.path().filename() != "empty";
  CHECK(snapshots == 1);
}

TEST_CASE("Only one daemon may use a root") {
  temporary_root root;
  auto store = open_store(root);
  auto second = ref_store::open({root.path(), snapshotter_kind::automatic});
  REQUIRE(!second.ok());
  CHECK(second.error().message.find("another instance is running") != std::string::npos);
}

TEST_CASE("The mode and owner of the root directory are inherited") {
  temporary_root root;
  auto store = open_store(root);
  auto s = begin(*store, {});
  REQUIRE(::chmod(s.path().c_str(), 0751) == 0);
  REQUIRE(::chown(s.path().c_str(), 12, 34) == 0);
  auto base = end(*store, std::move(s));
  auto top = layer_of(*store, base, {{"f", "x"}});
  auto m = mount_of(*store, top);
  struct stat info {};
  REQUIRE(::stat(m.path().c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0751);
  CHECK(info.st_uid == 12);
  CHECK(info.st_gid == 34);
}

TEST_CASE("A stack of 130 layers mounts, is written to and survives a restart") {
  temporary_root root;
  std::string id;
  {
    auto store = open_store(root, snapshotter_kind::overlayfs);
    ref top;
    for (int i = 0; i < 130; ++i)
      top = layer_of(*store, top, {{"f" + std::to_string(i), "x"}, {"last", std::to_string(i).c_str()}});
    id = top.id();
  }
  auto store = open_store(root, snapshotter_kind::overlayfs);
  auto top = must(store->get(id));
  auto all = listing(*store, top);
  CHECK(all.size() == 131);
  CHECK(all.at("last") == "129");
  auto more = layer_of(*store, top, {{"f7", nullptr}});
  CHECK(listing(*store, more).size() == 130);
}

TEST_CASE("Merges put later inputs on top and apply their deletions") {
  auto kind = GENERATE(snapshotter_kind::automatic, snapshotter_kind::native);
  temporary_root root;
  auto store = open_store(root, kind);
  auto base = layer_of(*store, {}, {{"base", "b"}, {"gone", "g"}, {"both", "base"}});
  auto a = layer_of(*store, base, {{"a", "a"}, {"both", "a"}});
  auto b = layer_of(*store, base, {{"gone", nullptr}, {"b", "b"}});
  auto only_b = must(store->diff(base, b, {}));
  std::vector<ref> inputs{a, only_b};
  auto merged = must(store->merge(inputs, {}));
  CHECK(listing(*store, merged) ==
        std::map<std::string, std::string>{{"base", "b"}, {"both", "a"}, {"a", "a"}, {"b", "b"}});
  // A layer that comes twice covers what was between.
  std::vector<ref> whole{a, b};
  auto again = must(store->merge(whole, {}));
  CHECK(listing(*store, again).at("both") == "base");
  CHECK(must(store->merge(std::vector<ref>{ref(), a, ref()}, {})).id() == a.id());
  CHECK(!must(store->merge(std::vector<ref>{}, {})));
}

TEST_CASE("The difference of a ref built on the other reuses its layers") {
  temporary_root root;
  auto store = open_store(root);
  auto base = layer_of(*store, {}, {{"base", "b"}});
  auto one = layer_of(*store, base, {{"one", "1"}});
  auto two = layer_of(*store, one, {{"two", "2"}});
  auto d = must(store->diff(base, two, {}));
  auto layers = must(store->layers().of(d, {}));
  REQUIRE(layers.size() == 2);
  CHECK(layers[0].id == one.id());
  CHECK(layers[1].id == two.id());
  CHECK(listing(*store, d) == std::map<std::string, std::string>{{"one", "1"}, {"two", "2"}});
  CHECK(!must(store->diff(base, base, {})));
  CHECK(must(store->diff(ref(), base, {})).id() == base.id());
}

TEST_CASE("The difference of unrelated refs is computed, whiteouts and all") {
  auto kind = GENERATE(snapshotter_kind::automatic, snapshotter_kind::native);
  temporary_root root;
  auto store = open_store(root, kind);
  auto lower = layer_of(*store, {}, {{"same", "s"}, {"gone/deep", "g"}, {"changed", "1"}, {"d/kept", "k"}});
  auto upper = layer_of(*store, {}, {{"changed", "22"}, {"new/deep", "n"}, {"d/kept", "k"}, {"d/more", "m"}});
  {  // equal in everything that counts
    auto s = begin(*store, upper);
    auto m = mount_of(*store, lower);
    struct stat info {};
    for (auto name : {"same"}) {
      write(s.path() / name, "s");
      REQUIRE(::stat((m.path() / name).c_str(), &info) == 0);
      const timespec times[2] = {info.st_atim, info.st_mtim};
      REQUIRE(::utimensat(AT_FDCWD, (s.path() / name).c_str(), times, 0) == 0);
    }
    upper = end(*store, std::move(s));
  }
  auto d = must(store->diff(lower, upper, {}));
  auto shown = listing(*store, d);
  CHECK(shown.contains("new/deep"));
  CHECK(shown.at("changed") == "22");
  CHECK(shown.contains("d/more"));
  CHECK(!shown.contains("same"));
  std::vector<ref> inputs{lower, d};
  auto merged = listing(*store, must(store->merge(inputs, {})));
  CHECK(merged == listing(*store, upper));
}

TEST_CASE("Retained mutables keep their content, are exclusive, and can be copied") {
  temporary_root root;
  record_options options{.description = "cache", .type = record_type::exec_cachemount};
  std::string id, copy_id;
  {
    auto store = open_store(root);
    auto m = must(store->acquire_named("cache/x", {}, options, {}));
    id = m.id();
    auto busy = store->acquire_named("cache/x", {}, options, {});
    REQUIRE(!busy.ok());
    CHECK(busy.error().code == errc::failed_precondition);
    auto mount = must(mounted::make(*store, must(store->files().mounts(m))));
    write(mount.path() / "f", "1");
    auto copy = must(store->commit_copy(m, {}, {}));
    copy_id = copy.id();
    // Replacing by rename, as its users promise, leaves the copy alone.
    write(mount.path() / "f.new", "2");
    fs::rename(mount.path() / "f.new", mount.path() / "f");
    CHECK(listing(*store, copy) == std::map<std::string, std::string>{{"f", "1"}});
  }
  auto store = open_store(root);
  auto m = must(store->acquire_named("cache/x", {}, options, {}));
  CHECK(m.id() == id);
  auto mount = must(mounted::make(*store, must(store->files().mounts(m))));
  CHECK(read(mount.path() / "f") == "2");
  CHECK(listing(*store, must(store->get(copy_id))).at("f") == "1");
  CHECK(store->get(id).error().code == errc::not_found);
}

TEST_CASE("A retained mutable is free when its user lets go of it, whoever looks at the disk meanwhile") {
  temporary_root root;
  auto store = open_store(root);
  std::jthread looking([&](std::stop_token stop) {
    while (!stop.stop_requested()) (void)store->space().disk_usage({});
  });
  for (int i = 0; i < 300; ++i) must(store->acquire_named("cache", {}, {}, {}));
}

TEST_CASE("Values and metadata are kept, and metadata goes with its record") {
  temporary_root root;
  std::string id;
  {
    auto store = open_store(root);
    auto r = layer_of(*store, {}, {{"f", "x"}});
    id = r.id();
    must(store->values().set_of_record(id, "etag", "abc"));
    must(store->values().set_of_record(id, std::string(2000, 'k'), "long key"));
    must(store->values().set("bucket", "one", "1"));
    must(store->values().set("bucket", "two", std::string("a\0b", 3)));
    must(store->values().set("bucket2", "one", "other"));
    CHECK(store->values().set_of_record("nosuch", "a", "b").error().code == errc::not_found);
  }
  auto store = open_store(root);
  CHECK(store->values().of_record(id, "etag") == "abc");
  CHECK(store->values().of_record(id, std::string(2000, 'k')) == "long key");
  CHECK(store->values().of_record(id, "none") == std::nullopt);
  CHECK(store->values().all("bucket") ==
        std::vector<std::pair<std::string, std::string>>{{"one", "1"}, {"two", std::string("a\0b", 3)}});
  must(store->values().erase("bucket", "one"));
  CHECK(store->values().get("bucket", "one") == std::nullopt);
  must(store->space().prune({.all = true}, nullptr));
  CHECK(store->values().of_record(id, "etag") == std::nullopt);
}

TEST_CASE("A directory removed and made again hides, in a merge, only what it hid where that was done") {
  auto kind = GENERATE(snapshotter_kind::automatic, snapshotter_kind::native);
  temporary_root root;
  std::string id;
  {
    auto store = open_store(root, kind);
    auto base = layer_of(*store, {}, {{"bar/A", "a"}, {"keep", "k"}});
    auto s = begin(*store, base);
    fs::remove_all(s.path() / "bar");
    write(s.path() / "bar/D", "d");
    auto run = end(*store, std::move(s));
    auto other = layer_of(*store, {}, {{"bar/A", "other"}, {"bar/E", "e"}});
    std::vector<ref> inputs{other, run};
    auto merged = must(store->merge(inputs, {}));
    id = merged.id();
    std::map<std::string, std::string> expected{{"bar", "/"}, {"bar/D", "d"}, {"bar/E", "e"}, {"keep", "k"}};
    CHECK(listing(*store, merged) == expected);
    auto more = layer_of(*store, merged, {{"more", "m"}});
    expected["more"] = "m";
    CHECK(listing(*store, more) == expected);
    run = other = base = more = ref();
    must(store->space().prune({.all = true}, nullptr));
    CHECK(listing(*store, merged).contains("bar/E"));
  }
  auto store = open_store(root, kind);
  CHECK(listing(*store, must(store->get(id))).contains("bar/E"));
}

TEST_CASE("A record that comes to memory and goes again and again is always as it was last changed") {
  temporary_root root;
  auto store = open_store(root);
  layer_blob form;
  form.blob.digest = must(store->blobs().put("bytes"));
  std::string id;
  {
    ref r;
    for (int i = 0; i < 300; ++i) {  // each has to be read while the uppermost waits
      form.diff_id = sha256(std::to_string(i));
      r = must(store->layer(r, form, nullptr, {}));
    }
    id = r.id();
  }
  std::jthread other([&](std::stop_token stop) {
    while (!stop.stop_requested()) (void)store->get(id);
  });
  for (std::size_t i = 2; i <= 100; ++i) {
    auto stored = must(store->blobs().put(std::to_string(i)));
    form.blob.digest = stored;
    must(store->layers().add_blob(id, form));
    must(store->values().set("what was queued", "is written", "by now"));
    REQUIRE(must(store->layers().of(must(store->get(id)), {})).back().blobs.size() == i);
  }
}

TEST_CASE("An image keeps the form of a layer that it came with") {
  temporary_root root;
  auto store = open_store(root);
  auto text = tar_builder().file("f", "x").text();
  auto form = [&](const std::string& bytes) {
    layer_blob b;
    b.blob.digest = sha256(bytes);
    b.blob.size = static_cast<std::int64_t>(bytes.size());
    b.diff_id = sha256(text);
    return b;
  };
  memory_provider provider;
  auto shared = std::shared_ptr<blob_provider>(&provider, [](auto*) {});
  auto first = form("compressed one way"), second = form("compressed another way");
  auto a = must(store->layer({}, first, shared, {}));
  CHECK(must(store->layers().of(a, {}))[0].blobs[0].blob.digest == first.blob.digest);
  auto b = must(store->layer({}, second, shared, {}));
  CHECK(a.id() == b.id());
  CHECK(must(store->layers().of(b, {}))[0].blobs[0].blob.digest == second.blob.digest);
  must(store->layer({}, first, shared, {}));
  auto blobs = must(store->layers().of(a, {}))[0].blobs;
  REQUIRE(blobs.size() == 2);
  CHECK(blobs[0].blob.digest == first.blob.digest);
}
