#include "store_fixture.hpp"

#include <sys/wait.h>

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
  auto wrong = must(blobs->write("a", sha256("expected"), std::nullopt));
  must(wrong->write("something else"));
  auto refused = wrong->commit();
  REQUIRE(!refused.ok());
  CHECK(refused.error().code == errc::data_loss);
  auto shorter = must(blobs->write("b", std::nullopt, 10));
  must(shorter->write("12345"));
  CHECK(shorter->commit().error().code == errc::data_loss);
  auto longer = must(blobs->write("c", std::nullopt, 3));
  CHECK(longer->write("12345").error().code == errc::out_of_range);
  longer.reset();
  CHECK(blobs->list().empty());
  CHECK(!fs::exists(root.path() / "ingest" / std::string(sha256("a").hex())));
}

TEST_CASE("An ingestion is resumed where it stopped, and only one writer holds it") {
  temporary_root root;
  auto text = big_text(300'000);
  {
    auto blobs = must(blob_store::open(root.path()));
    auto w = must(blobs->write("layer", sha256(text), 300'000));
    must(w->write(std::string_view(text).substr(0, 100'000)));
    CHECK(blobs->write("layer", std::nullopt, std::nullopt).error().code == errc::failed_precondition);
  }
  auto blobs = must(blob_store::open(root.path()));
  auto w = must(blobs->write("layer", sha256(text), 300'000));
  REQUIRE(w->offset() == 100'000);
  must(w->write(std::string_view(text).substr(100'000)));
  CHECK(must(w->commit()) == sha256(text));
  auto again = must(blobs->write("layer", std::nullopt, std::nullopt));
  CHECK(again->offset() == 0);
  must(again->write("abc"));
  must(again->truncate());
  CHECK(again->offset() == 0);
  must(again->write("xyz"));
  CHECK(must(again->commit()) == sha256("xyz"));
}

TEST_CASE("Stale ingestions are swept when the store is opened, recent ones are not") {
  temporary_root root;
  auto blobs = must(blob_store::open(root.path()));
  for (auto name : {"old", "new"}) must(must(blobs->write(name, std::nullopt, std::nullopt))->write("x"));
  auto old_data = root.path() / "ingest" / std::string(sha256("old").hex()) / "data";
  const timespec long_ago[2] = {{1000, 0}, {1000, 0}};
  REQUIRE(::utimensat(AT_FDCWD, old_data.c_str(), long_ago, 0) == 0);
  blobs = must(blob_store::open(root.path()));
  CHECK(!fs::exists(old_data));
  CHECK(must(blobs->write("new", std::nullopt, std::nullopt))->offset() == 1);
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
  must(blobs->set_labels(d, {{"containerd.io/distribution.source.docker.io", "library/busybox"}}));
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
        auto w = (*blobs)->write("w", sha256(mine), static_cast<std::int64_t>(mine.size()));
        if (!w.ok() || !(*w)->truncate().ok() || !(*w)->write(mine).ok() || !(*w)->commit().ok()) ::_exit(2);
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
    must(must(blobs->write("w", std::nullopt, std::nullopt))->truncate());
  }
}
