#include "store_fixture.hpp"

#include <sys/mount.h>
#include <sys/wait.h>

#include <atomic>
#include <thread>

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;

namespace {

std::string big_text(std::size_t size) {
  std::string text(size, '\0');
  std::uint32_t seed = 1;
  for (auto& c : text) c = static_cast<char>((seed = seed * 1664525 + 1013904223) >> 24);
  return text;
}

std::string drain(byte_source& source) {
  string_sink sink;
  must(copy(source, sink));
  return sink.text;
}

}  // namespace

TEST_CASE("A blob is kept under its digest and read back from any offset") {
  temporary_root root;
  auto blobs = must(blob_store::open(root.path()));
  auto text = big_text(1 << 20);
  auto d = must(blobs->put(text));
  CHECK(d == sha256(text));
  CHECK(blobs->has(d));
  CHECK(must(blobs->info(d)).size == 1 << 20);
  CHECK(drain(*must(blobs->read(d))) == text);
  CHECK(drain(*must(blobs->read(d, 12345))) == text.substr(12345));
  CHECK(blobs->read(d, (1 << 20) + 1).error().code == errc::out_of_range);
  CHECK(must(blobs->read_all(d, 1 << 20)) == text);
  CHECK(blobs->read_all(d, 1000).error().code == errc::resource_exhausted);
  CHECK(must(blobs->put(text)) == d);
  CHECK(blobs->list().size() == 1);
  must(blobs->remove(d));
  CHECK(!blobs->has(d));
  CHECK(blobs->info(d).error().code == errc::not_found);
  CHECK(drain(*must(blobs->read(must(blobs->put(""))))).empty());
}

TEST_CASE("A blob is not removed as unneeded while somebody holds it, and not asked about then") {
  temporary_root root;
  auto blobs = must(blob_store::open(root.path()));
  digest d = must(blobs->put("text"));
  auto remove = [&](bool unneeded) {
    return must(blobs->remove_unneeded(d, [&](const blob_info& b) -> result<bool> {
      CHECK(b.digest == d);
      CHECK(!b.in_use);
      return unneeded;
    }));
  };
  {
    auto hold = blobs->hold(d);
    auto copy = hold;
    hold.reset();
    CHECK(must(blobs->info(d)).in_use);
    CHECK(!must(blobs->remove_unneeded(d, [](const blob_info&) -> result<bool> {
      FAIL("asked");
      return true;
    })));
  }
  CHECK(!remove(false));
  CHECK(blobs->has(d));
  {
    auto writer = must(blobs->create());
    must(writer->write("text"));
    auto made = must(writer->commit());
    writer.reset();
    CHECK(!remove(true));
  }
  CHECK(remove(true));
  CHECK(!blobs->has(d));
  CHECK(remove(true));
}

TEST_CASE("Who comes to hold a blob that is being removed waits, and sees that it is gone") {
  temporary_root root;
  auto blobs = must(blob_store::open(root.path()));
  digest d = must(blobs->put("text"));
  std::atomic<bool> holding = false, had = true;
  std::thread other;
  CHECK(must(blobs->remove_unneeded(d, [&](const blob_info&) -> result<bool> {
    other = std::thread([&] {
      auto hold = blobs->hold(d);
      holding = true;
      had = blobs->has(d);
    });
    for (int i = 0; i < 1000; ++i) std::this_thread::yield();  // a chance to do it wrong
    CHECK(!holding);
    CHECK(blobs->has(d));
    return true;
  })));
  other.join();
  CHECK(!had);
}

TEST_CASE("Whoever changes a label leaves those that others change meanwhile") {
  temporary_root root;
  auto blobs = must(blob_store::open(root.path()));
  auto d = must(blobs->put("content"));
  constexpr int rounds = 200;
  std::vector<std::thread> all;
  for (std::string who : {"kiln.keep.history", "source.a", "source.b"})
    all.emplace_back([&blobs, &d, who] {
      for (int i = 0; i < rounds; ++i)
        if (!blobs->set_label(d, who, std::to_string(i)).ok()) std::abort();
    });
  for (auto& one : all) one.join();
  auto last = std::to_string(rounds - 1);
  CHECK(must(blobs->info(d)).labels == std::map<std::string, std::string>{{"kiln.keep.history", last},
                                                                          {"source.a", last},
                                                                          {"source.b", last}});
}

TEST_CASE("A label goes only with the value that is named, and none is left of a blob that is gone") {
  temporary_root root;
  auto blobs = must(blob_store::open(root.path()));
  digest d = must(blobs->put("text"));
  must(blobs->set_label(d, "a", "1"));
  must(blobs->set_label(d, "b", "2"));
  must(blobs->drop_label(d, "a", "2"));
  CHECK(must(blobs->info(d)).labels == std::map<std::string, std::string>{{"a", "1"}, {"b", "2"}});
  must(blobs->drop_label(d, "a", "1"));
  CHECK(must(blobs->info(d)).labels == std::map<std::string, std::string>{{"b", "2"}});
  must(blobs->remove(d));
  CHECK(blobs->set_label(d, "a", "1").error().code == errc::not_found);
  must(blobs->drop_label(d, "b", "2"));
  CHECK(fs::is_empty(root.path() / "labels"));
}

TEST_CASE("Names that are no digests never reach the file system") {
  temporary_root root;
  auto blobs = must(blob_store::open(root.path()));
  for (auto bad : {"sha256:../../../etc/passwd", "../x:y", "sha256:",
                   "random:"
                   "0000000000000000000000000000000000000000000000000000000000000000"}) {
    auto d = digest::trusted(bad);
    CHECK(!blobs->has(d));
    CHECK(blobs->info(d).error().code == errc::invalid_argument);
    CHECK(!blobs->read(d).ok());
    CHECK(!blobs->remove(d).ok());
  }
}

TEST_CASE("What differs from the expected digest or size is refused and leaves nothing") {
  temporary_root root;
  auto blobs = must(blob_store::open(root.path()));
  auto wrong = must(blobs->bring(sha256("expected"), std::nullopt, {}));
  must(wrong->write("something else"));
  auto refused = wrong->commit();
  REQUIRE(!refused.ok());
  CHECK(refused.error().code == errc::data_loss);
  auto shorter = must(blobs->bring(sha256("1234567890"), 10, {}));
  must(shorter->write("12345"));
  CHECK(shorter->commit().error().code == errc::data_loss);
  auto longer = must(blobs->bring(sha256("123"), 3, {}));
  CHECK(longer->write("12345").error().code == errc::out_of_range);
  longer.reset();
  CHECK(blobs->list().empty());
  CHECK(fs::is_empty(root.path() / "ingest"));
}

TEST_CASE("A blob that was not brought to its end is gone on with, also by the next daemon") {
  temporary_root root;
  auto text = big_text(300'000);
  {
    auto blobs = must(blob_store::open(root.path()));
    auto w = must(blobs->bring(sha256(text), 300'000, {}));
    must(w->write(std::string_view(text).substr(0, 100'000)));
  }
  auto blobs = must(blob_store::open(root.path()));
  auto left = blobs->partials();
  REQUIRE(left.size() == 1);
  CHECK(left[0].digest == sha256(text));
  CHECK(left[0].size >= 100'000);
  CHECK(!left[0].in_use);
  auto w = must(blobs->bring(sha256(text), 300'000, {}));
  REQUIRE(w->offset() == 100'000);
  CHECK(blobs->partials().at(0).in_use);
  CHECK(blobs->remove_partial(sha256(text)).error().code == errc::failed_precondition);
  must(w->write(std::string_view(text).substr(100'000)));
  CHECK(must(w->commit()) == sha256(text));
  CHECK(blobs->partials().empty());
  CHECK(must(blobs->bring(sha256(text), 300'000, {})) == nullptr);

  auto other = must(blobs->bring(sha256("xyz"), std::nullopt, {}));
  must(other->write("abc"));
  must(other->truncate());
  CHECK(other->offset() == 0);
  must(other->write("xyz"));
  CHECK(must(other->commit()) == sha256("xyz"));
}

TEST_CASE("Whoever wants a blob that another brings waits for it, and takes over when the other fails") {
  temporary_root root;
  auto blobs = must(blob_store::open(root.path()));
  auto text = big_text(200'000);
  auto first = must(blobs->bring(sha256(text), 200'000, {}));
  must(first->write(std::string_view(text).substr(0, 50'000)));

  constexpr int waiting = 4;
  std::atomic<int> brought{0}, found{0};
  std::vector<std::jthread> others;
  for (int i = 0; i < waiting; ++i)
    others.emplace_back([&] {
      auto w = blobs->bring(sha256(text), 200'000, {});
      if (!w.ok()) return;
      if (!*w) {
        ++found;
        return;
      }
      // Goes on where the one that failed had got.
      auto at = static_cast<std::size_t>((*w)->offset());
      if (at == 50'000 && (*w)->write(std::string_view(text).substr(at)).ok() && (*w)->commit().ok())
        ++brought;
    });
  std::stop_source stop;
  std::jthread stopper([&] { stop.request_stop(); });
  CHECK(blobs->bring(sha256(text), 200'000, stop.get_token()).error().code == errc::cancelled);
  CHECK(must(blobs->bring(sha256("another"), 7, {})) != nullptr);  // others are not held up
  first.reset();                                                   // it failed
  others.clear();
  CHECK(brought == 1);
  CHECK(found == waiting - 1);
  CHECK(must(blobs->read_all(sha256(text), 1 << 20)) == text);
}

TEST_CASE("What is left of a blob waits for a day at most; what nobody can go on with goes at the start") {
  temporary_root root;
  auto blobs = must(blob_store::open(root.path()));
  auto age = [&](const digest& d) {
    auto file = root.path() / "ingest" / ("sha256-" + std::string(d.hex()));
    const timespec long_ago[2] = {{1000, 0}, {1000, 0}};
    REQUIRE(::utimensat(AT_FDCWD, file.c_str(), long_ago, 0) == 0);
  };
  auto begin = [&](std::string_view name) {
    must(must(blobs->bring(sha256(name), std::nullopt, {}))->write("x"));
    return sha256(name);
  };
  auto young = begin("young");
  age(begin("old"));
  write(root.path() / "ingest/new-abc", "of a killed export");
  write(root.path() / "ingest/0123456789abcdef/data", "as earlier versions had it");
  blobs = must(blob_store::open(root.path()));
  REQUIRE(blobs->partials().size() == 1);
  CHECK(blobs->partials()[0].digest == young);
  CHECK(std::distance(fs::directory_iterator(root.path() / "ingest"), {}) == 1);

  age(young);
  {
    auto in_use = must(blobs->bring(young, std::nullopt, {}));
    blobs->remove_stale_partials();
    CHECK(blobs->partials().size() == 1);
  }
  blobs->remove_stale_partials();
  CHECK(blobs->partials().empty());
}

TEST_CASE("A new blob that is not committed leaves nothing") {
  temporary_root root;
  auto blobs = must(blob_store::open(root.path()));
  {
    auto w = must(blobs->create());
    must(w->write("begun"));
    CHECK(!fs::is_empty(root.path() / "ingest"));
    CHECK(blobs->partials().empty());
  }
  CHECK(fs::is_empty(root.path() / "ingest"));
  must(must(blobs->bring(sha256("nothing came"), 12, {}))->truncate());
  CHECK(fs::is_empty(root.path() / "ingest"));
  auto w = must(blobs->bring(sha256("given up"), 8, {}));
  must(w->write("given"));
  w->discard();
  CHECK(fs::is_empty(root.path() / "ingest"));
  CHECK(w->write(" up").error().code == errc::failed_precondition);
}

TEST_CASE("A disk that is full says so, ends the blob and keeps nothing of it") {
  temporary_root root;
  fs::create_directories(root.path() / "small");
  if (::mount("tmpfs", (root.path() / "small").c_str(), "tmpfs", 0, "size=1m") != 0) return;  // not root
  {
    auto blobs = must(blob_store::open(root.path() / "small"));
    auto text = big_text(4 << 20);
    auto w = must(blobs->bring(sha256(text), std::nullopt, {}));
    auto full = w->write(text);
    REQUIRE(!full.ok());
    CHECK(full.error().code == errc::resource_exhausted);
    CHECK(full.error().message.find("no space left on device") != std::string::npos);
    w.reset();
    CHECK(fs::is_empty(root.path() / "small/ingest"));
    CHECK(blobs->put(text).error().code == errc::resource_exhausted);
    CHECK(fs::is_empty(root.path() / "small/ingest"));
    must(blobs->put("what is small still fits"));
  }
  must(unmount(root.path() / "small"));
}

TEST_CASE("A truncated blob is data loss, never silently short") {
  temporary_root root;
  auto blobs = must(blob_store::open(root.path()));
  auto d = must(blobs->put(big_text(100'000)));
  auto source = must(blobs->read(d));
  std::string buffer(1000, '\0');
  must(source->read(buffer));
  REQUIRE(::truncate(blobs->path_of(d).c_str(), 2000) == 0);
  string_sink sink;
  auto rest = copy(*source, sink);
  REQUIRE(!rest.ok());
  CHECK(rest.error().code == errc::data_loss);
}

TEST_CASE("Labels are kept beside the blob and go with it") {
  temporary_root root;
  auto blobs = must(blob_store::open(root.path()));
  auto d = must(blobs->put("x"));
  must(blobs->set_label(d, "containerd.io/distribution.source.docker.io", "library/busybox"));
  blobs = must(blob_store::open(root.path()));
  CHECK(must(blobs->info(d)).labels.at("containerd.io/distribution.source.docker.io") == "library/busybox");
  must(blobs->remove(d));
  CHECK(fs::is_empty(root.path() / "labels"));
}

TEST_CASE("A writer killed at any point leaves a store without half blobs") {
  temporary_root root;
  auto text = big_text(2 << 20);
  std::uint32_t seed = 42;
  for (int round = 0; round < 12; ++round) {
    auto child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      auto blobs = blob_store::open(root.path());
      if (!blobs.ok()) ::_exit(1);
      for (int i = 0;; ++i) {
        auto mine = text + std::to_string(round) + "-" + std::to_string(i);
        auto w = i % 2 == 0 ? (*blobs)->bring(sha256(mine), static_cast<std::int64_t>(mine.size()), {})
                            : (*blobs)->create();
        if (!w.ok() || !(*w)->write(mine).ok() || !(*w)->commit().ok()) ::_exit(2);
      }
    }
    seed = seed * 1664525 + 1013904223;
    const timespec wait{0, static_cast<long>(1'000'000 + seed % 30'000'000)};
    ::nanosleep(&wait, nullptr);  // the moment of the kill, not a synchronisation
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));
    auto blobs = must(blob_store::open(root.path()));
    for (const auto& blob : blobs->list()) {
      REQUIRE(sha256(must(blobs->read_all(blob.digest, 64 << 20))) == blob.digest);
      must(blobs->remove(blob.digest));
    }
    // At most what can be gone on with, and that is known.
    auto left = static_cast<std::size_t>(std::distance(fs::directory_iterator(root.path() / "ingest"), {}));
    CHECK(left == blobs->partials().size());
    for (const auto& p : blobs->partials()) must(blobs->remove_partial(p.digest));
  }
}
