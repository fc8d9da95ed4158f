#include "client/session/blob_directory.hpp"

#include <catch2/catch.hpp>

#include <csignal>

#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/support/temp_dir.hpp"

using namespace kiln;
using namespace kiln::client;
namespace fs = std::filesystem;

namespace {

std::unique_ptr<blob_directory::ingest> must_begin(blob_directory& store, const std::string& ref) {
  auto begun = store.begin(ref, 0, "");
  if (!begun.ok()) FAIL(begun.error().message);
  return *std::move(begun);
}

std::size_t unfinished(const test::temp_dir& dir) {
  std::error_code ignored;
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(dir / "ingest", ignored), {}));
}

void age(const test::temp_dir& dir) {
  const timespec long_ago[2] = {{1000, 0}, {1000, 0}};
  for (const auto& entry : fs::recursive_directory_iterator(dir / "ingest"))
    REQUIRE(::utimensat(AT_FDCWD, entry.path().c_str(), long_ago, 0) == 0);
}

}  // namespace

TEST_CASE("A blob has one writer, of whatever process, and others are told that it is locked") {
  test::temp_dir dir;
  blob_directory store(dir.path().string());
  auto first = must_begin(store, "kiln-x");
  auto second = store.begin("kiln-x", 0, "");
  REQUIRE(!second.ok());
  CHECK(second.error().code == errc::unavailable);
  CHECK(second.error().message.find("locked") != std::string::npos);
  blob_directory another_process(dir.path().string());
  CHECK(another_process.begin("kiln-x", 0, "").error().message == second.error().message);
  REQUIRE(first->write(0, "text").ok());
  REQUIRE(first->commit().ok());
  first.reset();
  CHECK(must_begin(another_process, "kiln-x")->facts().offset == 0);
  CHECK(store.info(sha256("text")).ok());
}

TEST_CASE("What was begun and not committed goes with its store, and not with another's") {
  test::temp_dir dir;
  {
    blob_directory store(dir.path().string());
    {
      blob_directory failed(dir.path().string());
      REQUIRE(must_begin(failed, "kiln-failed")->write(0, "half").ok());
      CHECK(must_begin(failed, "kiln-failed")->facts().offset == 4);  // the same session goes on with it
    }
    CHECK(unfinished(dir) == 0);
    auto held = must_begin(store, "kiln-held");
    REQUIRE(held->write(0, "half").ok());
    {
      blob_directory other(dir.path().string());
      CHECK(!other.begin("kiln-held", 0, "").ok());
    }
    CHECK(unfinished(dir) == 1);
  }
  CHECK(unfinished(dir) == 0);
}

TEST_CASE("What a killed client left goes once nobody has touched it for an hour") {
  test::temp_dir dir;
  int told[2];
  REQUIRE(::pipe(told) == 0);
  auto child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    blob_directory store(dir.path().string());
    auto begun = store.begin("kiln-killed", 0, "");
    if (!begun.ok() || !(*begun)->write(0, "half").ok() || ::write(told[1], "x", 1) != 1) ::_exit(1);
    ::pause();
  }
  char byte = 0;
  REQUIRE(::read(told[0], &byte, 1) == 1);
  blob_directory store(dir.path().string());
  age(dir);
  store.remove_stale_ingests();
  CHECK(unfinished(dir) == 1);  // its writer lives
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(told[0]);
  ::close(told[1]);
  store.remove_stale_ingests();
  CHECK(unfinished(dir) == 0);
  auto young = must_begin(store, "another tool's");
  REQUIRE(young->write(0, "half").ok());
  store.remove_stale_ingests();
  CHECK(unfinished(dir) == 1);
}
