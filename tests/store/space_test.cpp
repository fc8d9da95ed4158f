#include "store_fixture.hpp"

#include <sys/statvfs.h>
#include <sys/wait.h>

#include <set>
#include <thread>

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;

namespace {

std::vector<std::string> prune(ref_store& store, const prune_rule& rule) {
  std::vector<std::string> gone;
  must(store.space().prune(rule, [&](const usage_record& u) { gone.push_back(u.description); }));
  return gone;
}

std::set<std::string> described(ref_store& store, const std::vector<std::string>& filters = {}) {
  std::set<std::string> all;
  for (const auto& u : must(store.space().disk_usage(filters))) all.insert(u.description);
  return all;
}

std::string filled(std::size_t size) { return std::string(size, 'x'); }

/// A record of about this many bytes that nobody holds.
std::string drop(ref_store& store, const std::string& name, std::size_t size,
                 record_type type = record_type::regular) {
  auto text = filled(size);
  return layer_of(store, {}, {{"data", text.c_str()}}, {.description = name, .type = type}).id();
}

/// Not counting what a start has set aside, and is removing.
int snapshot_count(const temporary_root& root) {
  int n = 0;
  for (const auto& e : fs::directory_iterator(root.path() / "snapshots")) {
    auto name = e.path().filename().string();
    n += name != "empty" && !name.starts_with("removed-");
  }
  return n;
}

}  // namespace

TEST_CASE("The size of a layer that was measured while it was nowhere grows with the blobs that come") {
  temporary_root root;
  auto store = open_store(root);
  auto provider = std::make_shared<memory_provider>();
  auto first = provider->add(tar_builder().file("f", filled(100'000)).text());
  auto second = provider->add(filled(50'000));
  second.diff_id = first.diff_id;  // the same layer, compressed in another way
  auto lazy = must(store->layer({}, first, provider, {}));
  auto size = [&] { return must(store->space().disk_usage({})).at(0).size; };
  CHECK(size() == 0);
  must(store->layers().fetch(lazy, first.blob.digest, {}));
  auto with_one = size();
  CHECK(with_one >= 100'000);
  must(store->blobs().put(filled(50'000)));
  must(store->layer({}, second, provider, {}));
  CHECK(size() >= with_one + 50'000);
}

TEST_CASE("The size of a layer follows its blobs, whoever brings or drops them") {
  temporary_root root;
  auto store = open_store(root);
  auto provider = std::make_shared<memory_provider>();
  auto blob = provider->add(tar_builder().file("f", filled(100'000)).text());
  auto lazy = must(store->layer({}, blob, provider, {}));
  auto size = [&] { return must(store->space().disk_usage({})).at(0).size; };
  CHECK(size() == 0);
  must(store->blobs().put(
      tar_builder().file("f", filled(100'000)).text()));  // somebody else's, of the same bytes
  CHECK(size() >= 100'000);
  must(store->blobs().remove(blob.blob.digest));
  CHECK(size() == 0);
}

TEST_CASE("A layer does not tell of a blob that is gone, as long as it can be made anew") {
  temporary_root root;
  auto store = open_store(root);
  auto r = layer_of(*store, {}, {{"f", "x"}}, {});
  layer_blob blob;
  blob.blob.digest = must(store->blobs().put("packed"));
  blob.blob.size = 6;
  blob.diff_id = sha256("plain");
  must(store->layers().add_blob(r.id(), blob));
  auto blobs = [&] { return must(store->layers().of(r, {})).at(0).blobs.size(); };
  CHECK(blobs() == 1);
  must(store->blobs().remove(blob.blob.digest));
  CHECK(blobs() == 0);
}

/// Writes these bytes as whoever packs a layer does.
auto packed(ref_store& store, const std::string& bytes) {
  auto writer = must(store.blobs().create());
  must(writer->write(bytes));
  return must(writer->commit());
}

layer_blob form_of(const digest& d, const std::string& bytes) {
  layer_blob out;
  out.blob.digest = d;
  out.blob.size = static_cast<std::int64_t>(bytes.size());
  out.diff_id = sha256("plain");
  return out;
}

TEST_CASE("A blob that is made again stays, though a prune takes the record that named it before") {
  temporary_root root;
  auto store = open_store(root);
  auto bytes = filled(5000);
  {
    auto before = layer_of(*store, {}, {{"f", "x"}}, {});
    must(store->layers().add_blob(before.id(), form_of(packed(*store, bytes), bytes)));
  }
  auto r = layer_of(*store, {}, {{"g", "y"}}, {});
  {
    auto made = packed(*store, bytes);  // finds what is there
    prune(*store, {.all = true});
    must(store->layers().add_blob(r.id(), form_of(made, bytes)));
  }
  auto layers = must(store->layers().of(r, {}));
  REQUIRE(layers.at(0).blobs.size() == 1);
  CHECK(store->blobs().has(layers[0].blobs[0].blob.digest));
  layers.clear();
  r = {};
  prune(*store, {.all = true});
  CHECK(store->blobs().list().empty());
}

TEST_CASE("Whoever packs the same layer again and again beside prunes always has its blob") {
  temporary_root root;
  auto store = open_store(root);
  auto bytes = filled(5000);
  std::jthread pruner([&](std::stop_token stop) {
    while (!stop.stop_requested()) (void)store->space().prune({.all = true}, {});
  });
  ref r;
  for (int i = 0; i < 300; ++i) {
    auto made = packed(*store, bytes);
    r = {};  // what named it before may go now
    r = must(store->commit(must(store->create({}, {}, {}))));
    must(store->layers().add_blob(r.id(), form_of(made, bytes)));
    auto layers = must(store->layers().of(r, {}));
    REQUIRE(layers.at(0).blobs.size() == 1);
    REQUIRE(store->blobs().read(layers[0].blobs[0].blob.digest).ok());
  }
}

TEST_CASE("What was just put stays for whoever put it, and goes with a prune after") {
  temporary_root root;
  auto store = open_store(root);
  {
    auto document = must(store->blobs().put(R"({"a": 1})"));
    prune(*store, {.all = true});
    CHECK(store->blobs().has(document));
  }
  prune(*store, {.all = true});
  CHECK(store->blobs().list().empty());
}

TEST_CASE("Documents that nothing names go with a prune after a while") {
  temporary_root root;
  auto store = open_store(root);
  auto put = [&](const std::string& text, std::chrono::seconds age) {
    digest d = must(store->blobs().put(text));
    fs::last_write_time(root.path() / "blobs/sha256" / d.hex(), fs::file_time_type::clock::now() - age);
    return d;
  };
  using namespace std::chrono_literals;
  auto config = put(R"({"architecture":"amd64"})", 2h);
  auto manifest = put(R"({"config":{"digest":")" + config.str() + R"("}})", 2h);
  auto index = put(R"({"manifests":[{"digest":")" + manifest.str() + R"("}]})", 2h);
  must(store->values().set("images", "kept", R"({"digest":")" + index.str() + R"("})"));
  auto old = put(R"({"nobody":"names it"})", 2h);
  auto of_old = put(R"({"names":")" + old.str() + R"("})", 2h);
  auto fresh = put(R"({"somebody":"may be about to"})", 10s);
  auto again = put(R"({"written":"again"})", 2h);
  must(store->blobs().put(R"({"written":"again"})"));
  auto has = [&](const digest& d) { return store->blobs().has(d); };

  prune(*store, {.filters = {"type==regular"}});
  CHECK(has(old));
  prune(*store, {.max_used_space = 1 << 30});
  CHECK(!has(old));
  CHECK(!has(of_old));
  CHECK(has(fresh));
  CHECK(has(again));
  for (const auto& d : {config, manifest, index}) CHECK(has(d));
  must(store->values().erase("images", "kept"));
  prune(*store, {});
  for (const auto& d : {config, manifest, index}) CHECK(!has(d));
}

TEST_CASE("A size that is measured while blobs come is not kept") {
  temporary_root root;
  auto store = open_store(root);
  auto r = layer_of(*store, {}, {{"f", "x"}}, {});
  auto alone = must(store->space().disk_usage({})).at(0).size;
  std::int64_t added = 0;
  {
    std::jthread looks([&](std::stop_token stop) {
      while (!stop.stop_requested()) must(store->space().disk_usage({}));
    });
    for (int i = 0; i < 200; ++i) {
      layer_blob b;
      auto bytes = filled(4'000 + static_cast<std::size_t>(i));
      b.blob.digest = must(store->blobs().put(bytes));
      b.blob.size = static_cast<std::int64_t>(bytes.size());
      b.diff_id = sha256("f");
      must(store->layers().add_blob(r.id(), b));
      added += b.blob.size;
    }
  }
  CHECK(must(store->space().disk_usage({})).at(0).size >= alone + added);
}

TEST_CASE("Usage tells size, use, type, parents and whether somebody has it") {
  temporary_root root;
  auto store = open_store(root);
  auto base = layer_of(*store, {}, {{"f", filled(100'000).c_str()}}, {.description = "base"});
  auto top_id = layer_of(*store, base, {{"g", "x"}}, {.description = "top"}).id();
  auto own = store->space().own_size(base);
  auto all = must(store->space().disk_usage({}));
  REQUIRE(all.size() == 2);
  for (const auto& u : all) {
    if (u.description == "base") {
      CHECK(u.in_use);
      CHECK(u.size >= 100'000);
      CHECK(u.size < 200'000);
      CHECK(own == u.size);
      CHECK(u.parents.empty());
    } else {
      CHECK(u.id == top_id);
      CHECK(!u.in_use);
      CHECK(u.parents == std::vector<std::string>{base.id()});
      CHECK(u.usage_count == 1);
      CHECK(u.last_used_at_ns.has_value());
    }
    CHECK(u.created_at_ns > 1'600'000'000'000'000'000);
    CHECK(!u.is_mutable);
  }
  must(store->get(top_id));
  for (const auto& u : must(store->space().disk_usage({"id==" + top_id}))) CHECK(u.usage_count == 2);
  CHECK(described(*store, {"inuse"}) == std::set<std::string>{"base"});
  CHECK(described(*store, {"description~=^t"}) == std::set<std::string>{"top"});
  CHECK(described(*store, {"parents==" + base.id()}) == std::set<std::string>{"top"});
  CHECK(described(*store, {"mutable"}).empty());
  CHECK(store->space().disk_usage({"id="}).error().code == errc::invalid_argument);
}

TEST_CASE("Prune removes what nobody uses, children before parents, but not internal records unless all") {
  temporary_root root;
  auto store = open_store(root);
  auto base = layer_of(*store, {}, {{"f", "x"}}, {.description = "base"});
  layer_of(*store, base, {{"g", "x"}}, {.description = "top"});
  base = ref();
  drop(*store, "frontend", 10, record_type::frontend);
  drop(*store, "internal", 10, record_type::internal);
  auto held = layer_of(*store, {}, {{"h", "x"}}, {.description = "held"});
  must(store->acquire_named("n", {}, {.description = "cache", .type = record_type::exec_cachemount}, {}));
  CHECK(prune(*store, {.filters = {"type==exec.cachemount"}}) == std::vector<std::string>{"cache"});
  auto gone = prune(*store, {});
  CHECK(gone == std::vector<std::string>{"top", "base"});
  CHECK(described(*store) == std::set<std::string>{"frontend", "internal", "held"});
  prune(*store, {.all = true});
  CHECK(described(*store) == std::set<std::string>{"held"});
  CHECK(snapshot_count(root) == 1);
  held = ref();
  prune(*store, {.all = true});
  CHECK(snapshot_count(root) == 0);
}

TEST_CASE("Prune to a size takes the longest unused and least used first and stops in time") {
  temporary_root root;
  auto store = open_store(root);
  std::vector<std::string> ids;
  for (auto name : {"a", "b", "c", "d"}) ids.push_back(drop(*store, name, 1'000'000));
  must(store->get(ids[0]));  // a is now the last used, and used twice
  auto gone = prune(*store, {.max_used_space = 2'500'000});
  CHECK(gone == std::vector<std::string>{"b", "c"});
  // Reserved space is a floor under any cap.
  CHECK(prune(*store, {.reserved_space = 10'000'000, .max_used_space = 100}).empty());
  // Plenty is free: nothing to do; more is asked for than there is: as far as reserved allows.
  CHECK(prune(*store, {.min_free_space = 1}).empty());
  struct statvfs disk {};
  REQUIRE(::statvfs(root.path().c_str(), &disk) == 0);
  auto total = static_cast<std::int64_t>(disk.f_blocks) * static_cast<std::int64_t>(disk.f_frsize);
  CHECK(prune(*store, {.reserved_space = 1'500'000, .min_free_space = total}).size() == 1);
  CHECK(described(*store) == std::set<std::string>{"a"});
}

TEST_CASE("Recently used records are kept for as long as was asked") {
  temporary_root root;
  auto store = open_store(root);
  drop(*store, "young", 10);
  CHECK(prune(*store, {.keep_duration_ns = 3'600'000'000'000}).empty());
  CHECK(prune(*store, {.keep_duration_ns = 1}).size() == 1);
}

TEST_CASE("Blobs go with the last record that names them; prune all leaves no blob") {
  temporary_root root;
  auto store = open_store(root);
  auto one = layer_of(*store, {}, {{"f", "1"}}, {.description = "one"});
  auto two = layer_of(*store, {}, {{"f", "1"}, {"g", "2"}}, {.description = "two"});
  digest d = must(store->blobs().put("shared"));
  layer_blob blob{.blob = {.media_type = "x",
                           .digest = d,
                           .size = 6,
                           .annotations = {},
                           .urls = {},
                           .platform = {},
                           .artifact_type = {}},
                  .diff_id = d};
  must(store->layers().add_blob(one.id(), blob));
  must(store->layers().add_blob(two.id(), blob));
  one = ref();
  prune(*store, {.filters = {"description==one"}});
  CHECK(store->blobs().has(d));
  two = ref();
  prune(*store, {.filters = {"description==two"}});
  CHECK(!store->blobs().has(d));
  must(store->blobs().put("nobody's"));
  must(store->blobs().set_label(must(store->blobs().put("history")), "kiln.keep.history", "1"));
  prune(*store, {.all = true});
  REQUIRE(store->blobs().list().size() == 1);
  CHECK(store->blobs().has(sha256("history")));
}

TEST_CASE(
    "Start-up sweeps snapshots that nothing names, leaked mounts and scratch directories, and nothing else") {
  temporary_root root;
  std::string kept;
  {
    auto store = open_store(root);
    kept = drop(*store, "kept", 10);
  }
  write(root.path() / "snapshots/777/fs/file", "orphan");
  write(root.path() / "transient/old/file", "x");
  write(root.path() / "tmp/other", "not ours");
  write(root.path() / "buildkitd.sock", "not ours");
  write(root.path() / "removed-transient-0/x", "of a start that was killed");
  write(root.path() / "snapshots/removed-776-0/fs/file", "likewise");
  fs::create_directories(root.path() / "snapshots/777/mnt");
  mount_spec leak{"bind", root.path() / "tmp", {"bind"}};
  must(mount_all(std::vector{leak}, root.path() / "snapshots/777/mnt"));
  auto store = open_store(root);
  CHECK(!fs::exists(root.path() / "snapshots/777"));
  CHECK(fs::is_empty(root.path() / "transient"));
  CHECK(fs::exists(root.path() / "tmp/other"));
  CHECK(fs::exists(root.path() / "buildkitd.sock"));
  CHECK(store->get(kept).ok());
  // The start only takes their names; they go while the store is used.
  auto set_aside = [&] {
    int n = 0;
    for (const auto& directory : {root.path(), root.path() / "snapshots"})
      for (const auto& entry : fs::directory_iterator(directory))
        n += entry.path().filename().string().starts_with("removed-");
    return n;
  };
  for (auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30); set_aside() > 0;) {
    REQUIRE(std::chrono::steady_clock::now() < end);
    std::this_thread::yield();
  }
}

TEST_CASE(
    "Start-up sweeps what only a kill leaves: probes, work directories, keys that lead nowhere, labels") {
  temporary_root root;
  std::string kept;
  {
    auto store = open_store(root);
    kept = drop(*store, "kept", 10);
    must(store->keys().add({{}, {{"leads somewhere", {kept, 0}}, {"leads nowhere", {"no such record", 0}}}}));
    auto m = must(store->acquire_named("cache", {}, {.type = record_type::exec_cachemount}, {}));
    write(must(store->files().mounts(m))[0].source + "/content", "of a cache mount");
  }
  write(root.path() / "snapshots/2/work0/work/#1a", "half a copy");
  write(root.path() / "snapshots/probe/upper/file", "x");
  write(root.path() / ("blobs/labels/sha256-" + std::string(sha256("gone").hex())), "{}");
  auto store = open_store(root);
  CHECK(!fs::exists(root.path() / "snapshots/2/work0"));
  CHECK(read(root.path() / "snapshots/2/fs/content") == "of a cache mount");
  CHECK(!fs::exists(root.path() / "snapshots/probe"));
  CHECK(fs::is_empty(root.path() / "blobs/labels"));
  CHECK(store->keys().results("leads somewhere").size() == 1);
  CHECK(store->keys().results("leads nowhere").empty());
  CHECK(store->keys().keys_of_result("no such record").empty());
}

TEST_CASE("A record whose snapshot has vanished is dropped with what stands on it") {
  temporary_root root;
  std::string top_id, other;
  {
    auto store = open_store(root);
    auto base = layer_of(*store, {}, {{"f", "x"}});
    top_id = layer_of(*store, base, {{"g", "x"}}).id();
    other = drop(*store, "other", 10);
  }
  must(remove_tree(root.path() / "snapshots/1"));
  auto store = open_store(root);
  CHECK(store->get(top_id).error().code == errc::not_found);
  CHECK(store->get(other).ok());
}

TEST_CASE("A store killed at any point opens again, whole, with all that was acknowledged") {
  temporary_root root;
  std::uint32_t seed = 11;
  std::string last_key;
  for (int round = 0; round < 12; ++round) {
    int told[2];
    REQUIRE(::pipe(told) == 0);
    auto child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      ::close(told[0]);
      auto opened = ref_store::open({root.path(), snapshotter_kind::automatic});
      if (!opened.ok()) ::_exit(1);
      auto& store = **opened;
      ref parent;
      for (int i = 0;; ++i) {
        auto m = store.create(parent, {.description = "step"}, {});
        if (!m.ok()) ::_exit(2);
        auto specs = store.files().mounts(*m);
        auto mount = mounted::make(store, *specs);
        if (!mount.ok()) ::_exit(3);
        std::ofstream(mount->path() / ("f" + std::to_string(i))) << "content of a step";
        if (!mount->unmount().ok()) ::_exit(4);
        auto r = store.commit(*std::move(m));
        if (!r.ok()) ::_exit(5);
        auto key = "key-" + std::to_string(round) + "-" + std::to_string(i);
        if (!store.keys().add({{}, {{key, {r->id(), 0}}}}).ok()) ::_exit(6);
        std::uint32_t size = static_cast<std::uint32_t>(key.size());
        if (::write(told[1], &size, 4) != 4 ||
            ::write(told[1], key.data(), size) != static_cast<ssize_t>(size))
          ::_exit(7);
        parent = i % 7 == 6 ? ref() : *std::move(r);
        if (i % 5 == 4 && !store.space().prune({.filters = {"description==none"}}, nullptr).ok()) ::_exit(8);
        if (i % 9 == 8 && !store.space().prune({.max_used_space = 20'000}, nullptr).ok()) ::_exit(9);
      }
    }
    ::close(told[1]);
    std::vector<std::string> keys;
    auto take = [&] {
      std::uint32_t size = 0;
      if (::read(told[0], &size, 4) != 4) return false;
      std::string key(size, '\0');
      if (::read(told[0], key.data(), size) != static_cast<ssize_t>(size)) return false;
      keys.push_back(key);
      return true;
    };
    if (!take()) {
      int status = 0;
      ::waitpid(child, &status, 0);
      FAIL("the child ended by itself with " << WEXITSTATUS(status));
    }
    seed = seed * 1664525 + 1013904223;
    const timespec wait{0, static_cast<long>(seed % 60'000'000)};
    ::nanosleep(&wait, nullptr);  // the moment of the kill, not a synchronisation
    ::kill(child, SIGKILL);
    while (take()) {
    }
    ::close(told[0]);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));

    auto store = open_store(root);
    CHECK(must(unmount_below(root.path())) == 0);
    CHECK(fs::is_empty(root.path() / "transient"));
    auto usage = must(store->space().disk_usage({}));
    CHECK(snapshot_count(root) == static_cast<int>(usage.size()));
    // The last acknowledged step was in use when the process died, so no prune can have taken it.
    auto results = store->keys().results(keys.back());
    REQUIRE(results.size() == 1);
    auto r = must(store->get(results[0].id));
    auto number = keys.back().substr(keys.back().rfind('-') + 1);
    CHECK(listing(*store, r).at("f" + number) == "content of a step");
    // Every key leads to a record that is there, and every record can be mounted.
    for (const auto& u : usage) CHECK(!listing(*store, must(store->get(u.id))).empty());
    for (const auto& key : keys)
      for (const auto& result : store->keys().results(key)) CHECK(store->get(result.id).ok());
  }
}
