// What the store does on a file system that has no room left: it says so, keeps what it has, and can be
// cleaned.
#include <set>

#include "small_disk.hpp"
#include "store/database/metadata_db.hpp"

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;

namespace {

std::string filled(std::size_t size) { return std::string(size, 'x'); }

std::optional<std::string> value_at(metadata_db& db, const std::string& key) {
  std::optional<std::string> found;
  must(db.read([&](const transaction& t) {
    if (auto v = t.get(table::values, key)) found = *v;
  }));
  return found;
}

auto put(const std::string& key, const std::string& value) {
  return [key, value](transaction& t) { return t.put(table::values, key, value); };
}

std::set<std::string> described(ref_store& store) {
  std::set<std::string> all;
  for (const auto& u : must(store.space().disk_usage({}))) all.insert(u.description);
  return all;
}

std::vector<std::string> prune(ref_store& store, const prune_rule& rule) {
  std::vector<std::string> gone;
  must(store.space().prune(rule, [&](const usage_record& u) { gone.push_back(u.description); }));
  return gone;
}

std::string drop(ref_store& store, const std::string& name, std::size_t size) {
  auto text = filled(size);
  return layer_of(store, {}, {{"data", text.c_str()}}, {.description = name}).id();
}

}  // namespace

TEST_CASE("A database on a full disk refuses what grows it in the end, and can always be cleaned") {
  small_disk disk("size=32m");
  if (!disk.is_there()) return;
  auto db = must(metadata_db::open(disk.path() / "m"));
  for (int i = 0; i < 2000; ++i) must(db->write(put("old" + std::to_string(i), filled(1000))));
  disk.fill();
  // Part of the reserve is for those who only write a little.
  must(db->write(put("small", "still fits")));
  status refused;
  int written = 0;
  while (refused.ok() && written < 10'000) {
    refused = db->write(put("new" + std::to_string(written), filled(1000)));
    written += refused.ok();
  }
  REQUIRE(!refused.ok());
  CHECK(refused.error().code == errc::resource_exhausted);
  CHECK(refused.error().message.find("no space left on device") != std::string::npos);
  CHECK(value_at(*db, "small") == "still fits");
  CHECK(!value_at(*db, "new" + std::to_string(written)));
  for (int i = 0; i < 2000; ++i)
    must(db->clean([&](transaction& t) { return t.erase(table::values, "old" + std::to_string(i)); }));
  // What they leave is used again, without a byte from the file system.
  CHECK(disk.free_bytes() == 0);
  must(db->write(put("after", filled(1000))));
  CHECK(value_at(*db, "after").has_value());
}

TEST_CASE("What nobody waits for is written as soon as there is room, in its order") {
  small_disk disk("size=32m");
  if (!disk.is_there()) return;
  auto db = must(metadata_db::open(disk.path() / "m"));
  must(db->write(put("ballast", "x")));
  disk.fill();
  for (int i = 0; db->write(put("full" + std::to_string(i), filled(1000))).ok(); ++i) {
  }
  db->post(put("owed", "first"));
  for (int i = 0; i < 600; ++i)
    db->post(put("owed" + std::to_string(i), filled(1000)));  // more than one commit
  db->post(put("owed", "last"));
  CHECK(!db->write(put("waited for", "x")).ok());
  CHECK(!db->write(put("waited for", "x")).ok());
  CHECK(db->has_queued());
  CHECK(!value_at(*db, "owed"));
  must(db->clean([](transaction& t) { return t.erase(table::values, "ballast"); }));
  disk.release();
  must(db->write(put("waited for", "y")));
  CHECK(!db->has_queued());
  CHECK(value_at(*db, "owed") == "last");
  CHECK(value_at(*db, "owed599").has_value());
  CHECK(value_at(*db, "waited for") == "y");
}

TEST_CASE("A full disk is cleaned by prune, also after a restart") {
  for (bool restarted : {false, true})
    for (std::string options : {"size=48m", "size=48m,nr_inodes=400"}) {
      DYNAMIC_SECTION(options << (restarted ? ", restarted" : "")) {
        small_disk disk(options);
        if (!disk.is_there()) return;
        auto open = [&] { return must(ref_store::open({disk.path(), snapshotter_kind::automatic})); };
        auto store = open();
        for (int i = 0; i < 20; ++i) drop(*store, "layer " + std::to_string(i), 500'000);
        auto kept = layer_of(*store, {}, {{"f", "kept"}}, {.description = "kept"});
        auto kept_id = kept.id();
        must(store->keys().add({{}, {{"key of kept", {kept_id, 0}}}}));
        auto kind = store->snapshotter();
        disk.fill();
        auto more = store->create({}, {}, {});
        if (more.ok()) {
          auto specs = must(store->files().mounts(*more));
          auto mount = mounted::make(*store, specs);
          CHECK(!(mount.ok() && (std::ofstream(mount->path() / "data") << filled(1 << 20)).flush()));
        }
        more = make_error(errc::internal, "dropped");
        if (restarted) {
          kept = ref();
          store.reset();
          store = open();
          CHECK(store->snapshotter() == kind);
          kept = must(store->get(kept_id));
        }
        auto gone = prune(*store, {.all = true});
        CHECK(gone.size() == 20);
        CHECK(described(*store) == std::set<std::string>{"kept"});
        CHECK(disk.free_bytes() > 9'000'000);
        // Writing works again; the filler still takes all names where those were short.
        disk.release();
        auto next = layer_of(*store, kept, {{"g", "next"}}, {.description = "next"});
        CHECK(listing(*store, next) == std::map<std::string, std::string>{{"f", "kept"}, {"g", "next"}});
        CHECK(store->keys().results("key of kept").size() == 1);
      }
    }
}

TEST_CASE("Prune tells what it could not remove, after all that it could") {
  temporary_root root;
  auto store = open_store(root);
  drop(*store, "first", 10);
  drop(*store, "stuck", 10);
  drop(*store, "last", 10);
  // What something is mounted on cannot be removed.
  mount_spec busy{"tmpfs", "tmpfs", {}, {}};
  auto point = root.path() / "snapshots/2/fs/mounted";
  fs::create_directories(point);
  if (!mount_all(std::vector{busy}, point).ok()) return;
  std::vector<std::string> gone;
  auto done =
      store->space().prune({.all = true}, [&](const usage_record& u) { gone.push_back(u.description); });
  must(unmount(point));
  REQUIRE(!done.ok());
  CHECK(done.error().message.find("is a mount point; not removed") != std::string::npos);
  CHECK(gone.size() == 3);  // no record names it: the next start sweeps it
  CHECK(!fs::exists(root.path() / "snapshots/3"));
  store.reset();
  store = open_store(root);
  CHECK(!fs::exists(root.path() / "snapshots/2"));
}

TEST_CASE("A fresh store on a disk without room says so instead of taking another snapshotter") {
  small_disk disk("size=32m,nr_inodes=20");
  if (!disk.is_there()) return;
  fs::create_directories(disk.path() / "state");
  disk.fill();
  auto opened = ref_store::open({disk.path() / "state", snapshotter_kind::automatic});
  REQUIRE(!opened.ok());
  CHECK(opened.error().code == errc::resource_exhausted);
  CHECK(opened.error().message.find("no space left on device") != std::string::npos);
}

TEST_CASE(
    "Content that no record names is told, counts and is pruned, but not documents and not what is in use") {
  temporary_root root;
  auto store = open_store(root);
  auto text = filled(100'000);
  must(must(store->blobs().bring(sha256("never comes"), std::nullopt, {}))->write(text));
  digest whole = must(store->blobs().put(text));
  digest layer = must(store->blobs().put(text + "rewritten"));
  digest document = must(store->blobs().put("{\"layers\": [{\"digest\": \"" + layer.str() + "\"}]}"));
  auto being_brought = must(store->blobs().bring(sha256("is coming"), std::nullopt, {}));
  must(being_brought->write(text));
  auto used = must(store->space().disk_usage({}));
  REQUIRE(used.size() == 4);
  std::int64_t total = 0;
  for (const auto& u : used) {
    total += u.size;
    CHECK(u.in_use == (u.id == sha256("is coming").str()));
    CHECK(u.type == (u.id == layer.str() ? record_type::internal : record_type::regular));
  }
  CHECK(total >= 400'000);
  CHECK(must(store->space().disk_usage({"id==" + whole.str()})).size() == 1);

  // Whoever works may be about to name what is whole; what is not whole nobody has.
  auto busy = layer_of(*store, {}, {{"f", "x"}});
  CHECK(prune(*store, {}) == std::vector<std::string>{"unfinished content " + sha256("never comes").str()});
  CHECK(store->blobs().has(whole));
  busy = ref();
  prune(*store, {});
  CHECK(!store->blobs().has(whole));
  // An image is whole as long as its manifest is there.
  CHECK(store->blobs().has(document));
  CHECK(store->blobs().has(layer));
  used = must(store->space().disk_usage({}));
  REQUIRE(used.size() == 2);
  being_brought->discard();

  // What nobody came for in a day goes whatever a policy says.
  digest old = must(store->blobs().put(text + "old"));
  const timespec long_ago[2] = {{1000, 0}, {1000, 0}};
  REQUIRE(::utimensat(AT_FDCWD, store->blobs().path_of(old).c_str(), long_ago, 0) == 0);
  digest young = must(store->blobs().put(text + "young"));
  prune(*store, {.max_used_space = 1'000'000'000});
  CHECK(!store->blobs().has(old));
  CHECK(store->blobs().has(young));
  prune(*store, {.all = true});
  CHECK(must(store->space().disk_usage({})).empty());
  CHECK(store->blobs().list().empty());
}

TEST_CASE(
    "A retained record that is discarded leaves neither its name nor its snapshot, and the name is free") {
  temporary_root root;
  auto store = open_store(root);
  {
    auto m = must(store->acquire_named("context", {}, {.description = "first"}, {}));
    write(must(store->files().mounts(m))[0].source + "/half", "of a file");
    must(store->discard(std::move(m)));
  }
  CHECK(described(*store).empty());
  CHECK(!fs::exists(root.path() / "snapshots/1"));
  auto m = must(store->acquire_named("context", {}, {.description = "second"}, {}));
  CHECK(listing(must(store->files().mounts(m))[0].source).empty());
  write(must(store->files().mounts(m))[0].source + "/whole", "file");
  m = mutable_ref();
  store.reset();
  store = open_store(root);
  m = must(store->acquire_named("context", {}, {}, {}));
  CHECK(listing(must(store->files().mounts(m))[0].source).count("whole") == 1);
}
